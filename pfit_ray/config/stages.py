"""Config of the stages of the three passes: every number of the published method."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pfit_ray.config.base import Section, option

Scale = Annotated[float, Field(gt=0.0, le=8.0)]
Fidelity = Literal["lossless", "reference"]
Precision = Literal["float32", "bfloat16", "float16"]
StoredAs = Literal["float16", "float32"]


class CamConfig(Section):
    """Class activation maps (PuzzleCAM inference)."""

    scales: tuple[Scale, ...] = option(
        (0.5, 1.0, 1.5, 2.0), "Factors of the image size at which the classifier looks.", min_length=1
    )
    flip: bool = option(True, "Add the map of the mirrored image.")
    max_side: int | None = option(
        2048,
        "The classifier sees scaled images with a longer side shrunk to it; null never shrinks, nor does fidelity "
        "reference, whatever stands here.",
        unit="pixels",
        ge=32,
    )
    fidelity: Fidelity | None = option(
        None, "reference crops hr_cam instead of resizing it; null follows the run's fidelity."
    )
    precision: Precision = option(
        "float32", "Type of the forward pass; float32 with fidelity reference, whatever stands here."
    )
    stored_as: StoredAs | None = option(
        None,
        "Type of the CAMs in the result tables, from which the walk starts; null is float16, or float32 with "
        "fidelity reference.",
    )


class SlicConfig(Section):
    """SLIC superpixels."""

    n_segments: int = option(1000, "Approximate number of superpixels.", ge=1, le=1_000_000)
    compactness: float = option(15.0, "Balance of nearness in space against nearness in colour.", gt=0.0)
    sigma: float = option(1.0, "Width of the Gaussian smoothing before the clustering.", unit="pixels", ge=0.0)


class QuickshiftConfig(Section):
    """Quickshift superpixels."""

    kernel_size: float = option(3.0, "Width of the density's Gaussian kernel.", unit="pixels", ge=1.0)
    max_dist: float = option(6.0, "Cut-off distance of the tree's links.", gt=0.0)
    ratio: float = option(0.29, "Weight of colour against space.", ge=0.0, le=1.0)
    seed: int = option(42, "Seed of the noise that breaks ties.", ge=0)


class UssConfig(Section):
    """The small CNN that merges superpixels into regions (unsupervised segmentation)."""

    seed: int = option(43, "Seed of the CNN's first weights, the same for every image.", ge=0)
    max_iterations: int = option(64, "Upper bound of the training steps per image.", ge=1)
    min_labels: int = option(20, "Stop as soon as fewer labels than this are left.", unit="labels", ge=2, le=32)
    learning_rate: float = option(0.05, "Learning rate of SGD.", gt=0.0)
    momentum: float = option(0.9, "Momentum of SGD.", ge=0.0, lt=1.0)
    fused: bool = option(
        False,
        "Compute the CNN by this package's own compiled passes instead of torch's layers: faster and with a third of "
        "the memory. Sums are rounded otherwise, which at times decides a vote. Fidelity reference never does.",
    )
    max_side: int | None = option(
        1024,
        "Larger images are segmented at this longer side and scaled back, because the CNN takes 3.2 kB per pixel; "
        "null never shrinks, nor does fidelity reference, whatever stands here.",
        unit="pixels",
        ge=32,
    )


class RegionsConfig(Section):
    """The two unsupervised segmentations of each image."""

    fidelity: Fidelity | None = option(
        None,
        "reference reads the image as BGR and takes two threads, on which rounding depends; null follows "
        "the run's fidelity.",
    )
    slic: SlicConfig = option(SlicConfig(), "First superpixel source.")
    quickshift: QuickshiftConfig = option(QuickshiftConfig(), "Second superpixel source.")
    uss: UssConfig = option(UssConfig(), "The CNN over the superpixels.")


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
    published: PublishedFitConfig = option(PublishedFitConfig(), "Numbers of fidelity reference.")


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


class AffinityLabelConfig(Section):
    """Sure foreground, sure background and unsure pixels, from the combined hr_cam."""

    fg_threshold: float = option(0.60, "Foreground that wins against this value is sure.", ge=0.0, le=2.0)
    bg_threshold: float = option(0.40, "Background that wins even with this value is sure.", ge=0.0, le=2.0)
    crf: LabelCrfConfig = option(LabelCrfConfig(), "The dense CRF after each threshold.")

    @model_validator(mode="after")
    def _check(self) -> "AffinityLabelConfig":
        if self.bg_threshold > self.fg_threshold:
            raise ValueError(
                f"bg_threshold {self.bg_threshold} is above fg_threshold {self.fg_threshold}; it must not be larger"
            )
        return self


class WalkConfig(Section):
    """Random walk of the CAM over AffinityNet's affinities."""

    fidelity: Fidelity | None = option(
        None,
        "reference: pad to 512 x 512, flip the mirrored edge map after its crop; null follows the run's fidelity.",
    )
    source: Literal["cam", "combined_cam"] = option(
        "cam", "The map that walks; the published commands take the plain CAM."
    )
    beta: float = option(10.0, "Exponent of the affinities.", gt=0.0, le=100.0)
    exp_times: int = option(8, "The walk takes 2 to this power steps.", ge=0, le=12)
    per_class: bool = option(
        False,
        "Divide each class's walked map by its own maximum, instead of all by one, as published: a class that is weak "
        "beside another then stays weak.",
    )
    radius: int = option(5, "Pixels nearer than this are neighbours.", unit="grid cells of 4 pixels", ge=2, le=20)
    max_side: int | None = option(
        2048,
        "AffinityNet sees images with a longer side shrunk to it, and the walk takes place at full size; null never "
        "shrinks, nor does fidelity reference, whatever stands here.",
        unit="pixels",
        ge=32,
    )
    precision: Precision = option(
        "float32", "Type of AffinityNet's forward pass; float32 with fidelity reference, whatever stands here."
    )


class PseudoLabelConfig(Section):
    """Pseudo labels from the walked CAM."""

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
        "Images with a longer side are segmented at it, before any scale, and their labels enlarged; null never "
        "shrinks, nor does fidelity reference, whatever stands here.",
        unit="pixels",
        ge=32,
    )
    label_floor: float = option(
        0.01,
        "Labels whose probability stays below it everywhere are left out of the CRF; 0 keeps all, and so does "
        "fidelity reference, whatever stands here.",
        ge=0.0,
        lt=1.0,
    )
    fidelity: Fidelity | None = option(
        None, "reference does not pad the image to the network's stride; null follows the run's fidelity."
    )
    precision: Precision = option(
        "float32", "Type of the forward pass; float32 with fidelity reference, whatever stands here."
    )
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
