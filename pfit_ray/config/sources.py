"""Config of the region sources and of what is made elsewhere."""

import re
from typing import Any, Literal

from pydantic import ValidationError, model_validator

from pfit_ray.config.base import Section, option
from pfit_ray.constants import PUBLISHED_SOURCES

_COLUMN = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)


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


class FelzenszwalbConfig(Section):
    """Felzenszwalb's graph-based segmentation."""

    scale: float = option(100.0, "Larger values give larger regions.", gt=0.0)
    sigma: float = option(0.8, "Width of the Gaussian smoothing before the segmentation.", unit="pixels", ge=0.0)
    min_size: int = option(50, "Smaller regions are merged into a neighbour.", unit="pixels", ge=1)


class FeaturesConfig(Section):
    """Superpixels merged into regions on the CAM network's own features."""

    superpixels: tuple[Literal["slic", "quickshift"], ...] = option(
        ("slic", "quickshift"), "What is merged; each has a tree of its own.", min_length=1
    )
    cuts: tuple[int, ...] = option(
        (8, 16, 32, 64), "Numbers of regions at which each tree is cut; each cut is a label map.", min_length=1
    )
    colour: float = option(1.0, "Weight of the colour (CIE Lab) beside the levels.", ge=0.0)
    levels: dict[int, float] = option(
        {1: 1.0, 2: 1.0},
        "Weights of the levels of the classifier's feature pyramid: 0 the stem, 1 stride 4, 2 stride 8, 3 and 4 "
        "stride 16.",
    )

    @model_validator(mode="after")
    def _check(self) -> "FeaturesConfig":
        if unknown := [level for level in self.levels if not 0 <= level <= 4]:
            raise ValueError(f"levels names level {unknown[0]}, but there are only 0 to 4")
        if min(self.levels.values(), default=0.0) < 0:
            raise ValueError("levels has a negative weight; weights are 0 or larger")
        if not self.colour and not any(self.levels.values()):
            raise ValueError("all weights of colour and levels are 0; give one of them a larger weight")
        if min(self.cuts) < 2 or len(set(self.cuts)) < len(self.cuts):
            raise ValueError(f"cuts are {list(self.cuts)}, and must be different numbers from 2")
        if len(set(self.superpixels)) < len(self.superpixels):
            raise ValueError("superpixels names a kind twice; remove one")
        return self


class UssConfig(Section):
    """The small CNN that merges superpixels into regions (unsupervised segmentation)."""

    seed: int = option(43, "Seed of the CNN's first weights, the same for every image.", ge=0)
    max_iterations: int = option(64, "Upper bound of the training steps per image.", ge=1)
    min_labels: int = option(20, "Stop as soon as fewer labels than this are left.", unit="labels", ge=2, le=32)
    learning_rate: float = option(0.05, "Learning rate of SGD.", gt=0.0)
    momentum: float = option(0.9, "Momentum of SGD.", ge=0.0, lt=1.0)
    fused: bool = option(
        True,
        "Compute the CNN by this package's own compiled code instead of torch's layers: faster and with half the "
        "memory. Sums are rounded differently, which at times decides a vote. Fidelity reference uses torch's "
        "layers.",
    )
    max_side: int | None = option(
        1024,
        "Larger images are shrunk to this longer side for every region source, and the regions are scaled back, "
        "because the CNN takes over 1 kB per pixel; null, or fidelity reference, never shrinks.",
        unit="pixels",
        ge=32,
    )


class ExternalConfig(Section):
    """Files made elsewhere, one for each image, found by the image's id."""

    url: str = option(
        ...,
        "A folder with a file IMAGE_ID.png (regions) or IMAGE_ID.npz or .npy (CAMs) for each image, or tar or Parquet "
        "files: one file, a folder, or a glob such as masks/*.tar.",
        min_length=1,
    )
    form: Literal["files", "tar", "parquet"] | None = option(
        None, "How they are stored; null goes by the URL's suffix: .tar, .parquet, else files."
    )
    id_column: str = option("image_id", "Parquet: the column of image ids.")


class ExternalRegionsConfig(ExternalConfig):
    """Label maps made elsewhere."""

    column: str = option("regions", "Parquet: the column with the bytes of a PNG.")


class ExternalCamConfig(ExternalConfig):
    """CAMs made elsewhere."""

    column: str = option("cam", "Parquet: the column with the maps (K, h, w) as the bytes of a .npy file.")
    keys_from: Literal[0, 1] | None = option(
        None,
        "Files: the key of the first foreground class. null: 1 in .npz files, 0 in those of IRN and CLIP-ES, 1 in "
        "PuzzleCAM's; .npy files with a map for each key, such as MCTformer's (0), need it.",
    )
    keys_column: str = option("keys", "Parquet: the column with the K class ids of the maps, from 1.")


class HubConfig(Section):
    """A model of the transformers library."""

    model: str = option(
        ...,
        "Its name on the Hugging Face hub, or a folder in the hub's layout, which every node must have: config.json, "
        "model.safetensors and the processor's files.",
        min_length=1,
    )
    revision: str | None = option(None, "Branch, tag or commit on the hub; a commit keeps the results as they are.")


class SamConfig(HubConfig):
    """Masks that Segment Anything (SAM, SAM 2) finds by itself."""

    points_per_side: int = option(32, "The grid of points that are asked has so many in each direction.", ge=1, le=128)
    points_per_batch: int = option(64, "Points that go through the network together.", ge=1, le=4096)
    min_iou: float = option(0.88, "Masks of which the network expects a smaller IoU are left out.", ge=0.0, le=1.0)
    min_stability: float = option(
        0.95, "Masks that a shift of their threshold changes more than to this IoU are left out.", ge=0.0, le=1.0
    )
    max_overlap: float = option(0.7, "Of masks whose boxes have a larger IoU, the best is kept.", ge=0.0, le=1.0)


class ClipConfig(HubConfig):
    """Class maps of CLIP's dense features and text prompts."""

    prompts: dict[str, list[str]] = option(
        {}, "Texts of a class, of which the mean is taken; a class without any has the template and its name."
    )
    template: str = option("a photo of a {}.", "The text of a name, which stands for {}.", min_length=2)
    background: list[str] = option(
        ["wall", "floor", "ground", "grass", "tree", "sky", "water", "road", "building", "furniture"],
        "Names of what is none of the classes; take out what one of your classes is.",
    )
    side: int = option(
        448, "The longer side at which the network sees an image, in whole patches.", unit="pixels", ge=32, le=4096
    )
    min_score: float = option(
        0.3, "Images without a label get the classes whose share among all texts reaches this.", gt=0.0, le=1.0
    )

    @model_validator(mode="after")
    def _check(self) -> "ClipConfig":
        if "{}" not in self.template or self.template.replace("{}", "").strip("{}") != self.template.replace("{}", ""):
            raise ValueError("template must hold {} for the name")
        if empty := [name for name, texts in self.prompts.items() if not texts]:
            raise ValueError(f"prompts gives no text for class {empty[0]!r}")
        return self


_SECTIONS: dict[str, type[Section]] = {
    "slic": SlicConfig,
    "quickshift": QuickshiftConfig,
    "felzenszwalb": FelzenszwalbConfig,
    "features": FeaturesConfig,
    "external": ExternalRegionsConfig,
    "sam": SamConfig,
}


class RegionSourceConfig(Section):
    """One region source."""

    kind: str = option(
        ...,
        "slic, quickshift, felzenszwalb, features (superpixels merged on the CAM network's features, several label "
        "maps), sam (masks of Segment Anything), external, or a kind that another package has registered.",
        min_length=1,
    )
    name: str | None = option(None, "Its name in the columns regions_NAME and fit_mask_NAME; null uses the kind.")
    uss: bool | None = option(
        None, "Merge its regions by the small CNN of regions.uss; null does so for slic and quickshift alone."
    )
    options: dict[str, Any] = option({}, "Its options, which add to or replace the numbers of its kind.")

    @model_validator(mode="before")
    @classmethod
    def _kind_alone(cls, given: Any) -> Any:
        return {"kind": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _check(self) -> "RegionSourceConfig":
        if not _COLUMN.fullmatch(self.column):
            raise ValueError(
                f"the name {self.column!r} must be small letters, digits and '_', at most 32; set another name"
            )
        if self.kind in _SECTIONS:
            checked_options(_SECTIONS[self.kind], self.options)
        if self.kind == "features" and self.uss:
            raise ValueError("kind features merges superpixels itself; leave uss out")
        return self

    @property
    def column(self) -> str:
        """Its name."""
        return self.name or self.kind

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of its label maps, as in the columns: its own, or one for each cut of each tree."""
        if self.kind != "features":
            return (self.column,)
        given = FeaturesConfig.model_validate(self.options)
        return tuple(f"{self.column}_{kind}_{cut}" for kind in given.superpixels for cut in given.cuts)

    @property
    def merged(self) -> bool:
        """Whether the CNN merges its regions."""
        return self.kind in PUBLISHED_SOURCES if self.uss is None else self.uss


def has_known_options(source: RegionSourceConfig) -> bool:
    """Whether the options of a source are nothing but numbers of its kind."""
    return source.kind in _SECTIONS and source.kind not in ("external", "sam")


def checked_options(section: type[Section], options: dict[str, Any]) -> None:
    """Check the options of a source whose fields are known.

    Raises:
        ValueError: in one sentence: the option, and what is wrong with it.
    """
    try:
        section.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"options.{name}: {first['msg'][:1].lower()}{first['msg'][1:]}") from error
