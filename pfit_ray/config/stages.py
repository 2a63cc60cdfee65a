"""Config of the stages of the three passes and their dense CRFs: every number of the published method."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pfit_ray.config.base import Section, option
from pfit_ray.config.sources import (
    ClipConfig,
    ExternalCamConfig,
    FelzenszwalbConfig,
    QuickshiftConfig,
    RegionSourceConfig,
    SlicConfig,
    UssConfig,
    checked_options,
)


class LabelCrfConfig(Section):
    """Dense CRF over a label map (affinity labels and pseudo labels)."""

    iterations: int = option(10, "Mean-field iterations; 0 leaves the CRF out.", ge=0, le=100)
    gt_prob: float = option(0.7, "Probability that the given label is right.", gt=0.0, lt=1.0)
    gaussian_sxy: float = option(3.0, "Spatial width of the smoothness term.", unit="pixels", gt=0.0)
    gaussian_compat: float = option(3.0, "Weight of the smoothness term.", ge=0.0)
    bilateral_sxy: float = option(50.0, "Spatial width of the appearance term.", unit="pixels", gt=0.0)
    bilateral_srgb: float = option(5.0, "Colour width of the appearance term.", unit="grey levels", gt=0.0)
    bilateral_compat: float = option(10.0, "Weight of the appearance term.", ge=0.0)


class SoftmaxCrfConfig(Section):
    """Dense CRF over class probabilities (segmentation inference)."""

    iterations: int = option(10, "Mean-field iterations; 0 leaves the CRF out.", ge=0, le=100)
    gaussian_sxy: float = option(3.0, "Spatial width of the smoothness term.", unit="pixels", gt=0.0)
    gaussian_compat: float = option(3.0, "Weight of the smoothness term.", ge=0.0)
    bilateral_sxy: float = option(80.0, "Spatial width of the appearance term.", unit="pixels", gt=0.0)
    bilateral_srgb: float = option(13.0, "Colour width of the appearance term.", unit="grey levels", gt=0.0)
    bilateral_compat: float = option(10.0, "Weight of the appearance term.", ge=0.0)


Scale = Annotated[float, Field(gt=0.0, le=8.0)]
Fidelity = Literal["lossless", "reference"]
Precision = Literal["float32", "bfloat16", "float16"]
StoredAs = Literal["float16", "float32"]
CombineMode = Literal["none", "fit", "pool", "pool_fit"]


_CAM_SECTIONS: dict[str, type[Section]] = {"external": ExternalCamConfig, "clip": ClipConfig}


class CamConfig(Section):
    """Class activation maps: where they come from, and PuzzleCAM's inference with a classifier."""

    source: str = option(
        "classifier",
        "classifier: the network of the section classifier (trained, given, or ImageNet rows), with the numbers below; "
        "external: maps made elsewhere, by image id; clip: CLIP and text prompts; or a CAM source that "
        "another package has registered.",
        min_length=1,
    )
    options: dict[str, Any] = option({}, "Options of cam.source, unless it is classifier.")
    scales: tuple[Scale, ...] = option(
        (0.5, 1.0, 1.5, 2.0), "Factors of the image size at which the classifier looks.", min_length=1
    )
    flip: bool = option(True, "Add the map of the mirrored image.")
    max_side: int | None = option(
        2048,
        "Scaled images with a longer side are shrunk to it for the classifier; null, or fidelity reference, "
        "never shrinks.",
        unit="pixels",
        ge=32,
    )
    fidelity: Fidelity | None = option(
        None, "reference crops hr_cam instead of resizing it; null follows the run's fidelity."
    )
    precision: Precision = option("float32", "Type of the forward pass; fidelity reference always uses float32.")
    stored_as: StoredAs | None = option(
        None,
        "Type of the CAMs in the result tables, from which the walk starts; null is float16, or float32 with "
        "fidelity reference.",
    )

    @model_validator(mode="after")
    def _check(self) -> "CamConfig":
        if self.source == "classifier" and self.options:
            raise ValueError(
                "options do not apply to source 'classifier'; its numbers are fields of cam and classifier"
            )
        if self.source in _CAM_SECTIONS:
            checked_options(_CAM_SECTIONS[self.source], self.options)
        return self


class RegionsConfig(Section):
    """The segmentations of each image into regions; they know no classes."""

    fidelity: Fidelity | None = option(
        None,
        "reference reads the image as BGR and takes two threads, on which rounding depends; null follows "
        "the run's fidelity.",
    )
    sources: tuple[RegionSourceConfig, ...] = option(
        (RegionSourceConfig(kind="slic"), RegionSourceConfig(kind="quickshift")),
        "Any number of region sources, each a kind or a mapping of the fields below; each takes time on every image.",
        min_length=1,
    )
    slic: SlicConfig = option(SlicConfig(), "Numbers of sources of kind slic.")
    quickshift: QuickshiftConfig = option(QuickshiftConfig(), "Numbers of sources of kind quickshift.")
    felzenszwalb: FelzenszwalbConfig = option(FelzenszwalbConfig(), "Numbers of sources of kind felzenszwalb.")
    uss: UssConfig = option(UssConfig(), "The CNN that merges superpixels.")

    @model_validator(mode="after")
    def _check(self) -> "RegionsConfig":
        names = self.names
        doubled = [name for name in names if names.count(name) > 1]
        if doubled:
            raise ValueError(f"two sources have the name {doubled[0]!r}; give one of them another name")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the sources' label maps, as in the columns."""
        return tuple(name for source in self.sources for name in source.columns)

    def source(self, name: str) -> RegionSourceConfig:
        """The source of a label map."""
        return next(source for source in self.sources if name in source.columns)

    def options_of(self, source: RegionSourceConfig) -> dict[str, Any]:
        """What a source is given: the numbers of its kind, where this section has them, then its own."""
        shared = getattr(self, source.kind).model_dump() if source.kind in _WITH_NUMBERS else {}
        if source.kind == "features":
            shared = {"slic": self.slic.model_dump(), "quickshift": self.quickshift.model_dump()}
        return {**shared, **source.options}


_WITH_NUMBERS = ("slic", "quickshift", "felzenszwalb")


class PublishedFitConfig(Section):
    """Numbers of the published PerimeterFit programs, used with fidelity reference only."""

    colour_seed: int = option(43, "Seed of the table of the region picture's colours.", ge=0, lt=2**32)
    canny_low: float = option(1.0, "Lower hysteresis threshold of Canny.", unit="grey levels", ge=0.0)
    canny_high: float = option(50.0, "Upper hysteresis threshold of Canny.", unit="grey levels", ge=0.0)
    blur: int = option(3, "Side of the Gaussian blur before Canny; odd.", unit="pixels", ge=1, le=31)
    tolerance: int = option(10, "Largest L1 colour distance that a flood fill passes.", unit="grey levels", ge=0)
    slic_edge_threshold: int = option(250, "Brighter pixels of the slic map are edges.", ge=0, le=255)
    quickshift_edge_threshold: int = option(200, "Brighter pixels of the quickshift map are edges.", ge=0, le=255)


class FitConfig(Section):
    """Perimeter maps and PerimeterFit masks."""

    fidelity: Fidelity | None = option(
        None,
        "lossless: perimeters from label borders, regions as connected components; reference: the JPEG "
        "round trip, Canny and the flood fill; null follows the run's fidelity.",
    )
    slic_cam_threshold: float = option(0.05, "hr_cam above it is the rough CAM for the slic mask.", ge=0.0, lt=1.0)
    quickshift_cam_threshold: float = option(
        0.0, "hr_cam above it is the rough CAM for the quickshift mask.", ge=0.0, lt=1.0
    )
    cam_threshold: float = option(
        0.05, "hr_cam above it is the rough CAM for the masks of all other sources.", ge=0.0, lt=1.0
    )
    published: PublishedFitConfig = option(PublishedFitConfig(), "Numbers of fidelity reference.")


class CombineConfig(Section):
    """What the CAM and the regions make together: the combined CAM."""

    mode: CombineMode | None = option(
        None,
        "none: the CAM as it is, regions are left out; fit: doubled where all PerimeterFit masks agree, as published; "
        "pool: averaged within each connected region, then over the sources; pool_fit: pooled, then doubled; null is "
        "fit.",
    )
    rounds: int = option(
        1, "How often pool and pool_fit average; with several sources a second round reaches further.", ge=1
    )

    @model_validator(mode="after")
    def _check(self) -> "CombineConfig":
        if self.rounds > 1 and self.mode not in ("pool", "pool_fit"):
            raise ValueError(
                f"rounds is {self.rounds}, but mode {self.mode or 'fit'} does not pool: choose pool or pool_fit"
            )
        return self


AFFINITY_THRESHOLDS: dict[CombineMode, tuple[float, float]] = {
    "none": (0.40, 0.10),
    "fit": (0.60, 0.40),
    "pool": (0.32, 0.28),
    "pool_fit": (0.55, 0.43),
}
"""Thresholds of sure foreground and sure background by `combine.mode`.

fit: as published by PerimeterFit; none: as PuzzleCAM publishes them for the CAM; pool and pool_fit: those that make
their labels as sure, before the CRF, as the published ones are (docs/research/results.md).
"""


class AffinityLabelConfig(Section):
    """Sure foreground, sure background and unsure pixels, from the combined hr_cam."""

    fg_threshold: float | None = option(
        None, "Foreground that wins against this value is sure; null follows combine.mode.", ge=0.0, le=2.0
    )
    bg_threshold: float | None = option(
        None, "Background that wins even with this value is sure; null follows combine.mode.", ge=0.0, le=2.0
    )
    crf: LabelCrfConfig = option(LabelCrfConfig(), "The dense CRF after each threshold.")

    @model_validator(mode="after")
    def _check(self) -> "AffinityLabelConfig":
        if self.bg_threshold is not None and self.fg_threshold is not None:
            self.thresholds("fit")
        return self

    def thresholds(self, mode: CombineMode) -> tuple[float, float]:
        """Thresholds of sure foreground and sure background.

        Raises:
            ValueError: when that of the background is the larger one.
        """
        foreground, background = AFFINITY_THRESHOLDS[mode]
        foreground = foreground if self.fg_threshold is None else self.fg_threshold
        background = background if self.bg_threshold is None else self.bg_threshold
        if background > foreground:
            raise ValueError(f"bg_threshold {background} is above fg_threshold {foreground}; it must not be larger")
        return foreground, background


class WalkConfig(Section):
    """Random walk of the CAM over AffinityNet's affinities."""

    fidelity: Fidelity | None = option(
        None,
        "reference: pad to 512 x 512, flip the mirrored edge map after its crop; null follows the run's fidelity.",
    )
    source: Literal["cam", "combined_cam"] = option(
        "cam", "The map that walks; the published commands use the plain CAM."
    )
    beta: float = option(10.0, "Exponent of the affinities.", gt=0.0, le=100.0)
    exp_times: int = option(8, "The walk takes 2 to this power steps.", ge=0, le=12)
    per_class: bool = option(
        False,
        "Divide each class's walked map by its own maximum; false divides all by one maximum, as published, and "
        "a class that is weak beside another stays weak.",
    )
    radius: int = option(5, "Pixels nearer than this are neighbours.", unit="grid cells of 4 pixels", ge=2, le=20)
    max_side: int | None = option(
        2048,
        "Images with a longer side are shrunk to it for AffinityNet, and the walk takes place at full size; "
        "null, or fidelity reference, never shrinks.",
        unit="pixels",
        ge=32,
    )
    precision: Precision = option(
        "float32", "Type of AffinityNet's forward pass; fidelity reference always uses float32."
    )


class PseudoLabelConfig(Section):
    """Pseudo labels from the walked CAM."""

    pool: bool | None = option(
        None,
        "Average the walked map with its means within the regions of each region source, before the threshold; "
        "null does this, except with walk.fidelity reference or with combine.mode none, which has no regions.",
    )
    threshold: float = option(0.35, "Value of the background.", ge=0.0, le=1.0)
    crf: LabelCrfConfig = option(LabelCrfConfig(iterations=1), "The dense CRF after the threshold.")


class PredictConfig(Section):
    """Segmentation inference with DeepLabv3+."""

    scales: tuple[Scale, ...] = option(
        (0.5, 1.0, 1.5, 2.0), "Factors of the image size at which the network looks.", min_length=1
    )
    flip: bool = option(True, "Add the logits of the mirrored image.")
    max_side: int | None = option(
        1024,
        "Images with a longer side are segmented at it, before any scale, and their labels enlarged; null, or "
        "fidelity reference, never shrinks.",
        unit="pixels",
        ge=32,
    )
    label_floor: float = option(
        0.01,
        "Labels whose probability stays below it everywhere are left out of the CRF; 0, or fidelity reference, "
        "keeps all.",
        ge=0.0,
        lt=1.0,
    )
    fidelity: Fidelity | None = option(
        None, "reference does not pad the image to the network's stride; null follows the run's fidelity."
    )
    precision: Precision = option("float32", "Type of the forward pass; fidelity reference always uses float32.")
    crf: SoftmaxCrfConfig = option(SoftmaxCrfConfig(), "The dense CRF after the softmax.")


class EvaluateConfig(Section):
    """Scoring against ground truth."""

    threshold_start: float = option(0.05, "First background value of the threshold sweep.", ge=0.0, le=1.0)
    threshold_stop: float = option(0.80, "The sweep ends before this value.", gt=0.0, le=1.0)
    threshold_step: float = option(0.05, "Step of the threshold sweep.", gt=0.0, le=0.5)
    bootstrap: int = option(
        1000, "Draws of the images for the 95 % interval of each mIoU; 0 leaves it out.", unit="draws", ge=0, le=10_000
    )
    boundary: float = option(
        0.02,
        "Width of the band that boundary IoU compares, as a share of the image's diagonal; 0 leaves it out.",
        ge=0.0,
        le=0.5,
    )
