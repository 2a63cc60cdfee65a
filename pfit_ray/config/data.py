"""Config of the images, their labels and their classes."""

from typing import Literal

from pydantic import model_validator

from pfit_ray.config.base import Section, option
from pfit_ray.schema import MAX_CLASSES, VOC_CLASSES, ClassList

Split = str


class ImageSetConfig(Section):
    """Which images of the source one part of the run works on."""

    split: Split | None = option(
        None,
        "Source voc: a list by name (ImageSets/Segmentation/NAME.txt) or the URL of a list file; "
        "null takes every image.",
    )
    limit: int | None = option(None, "Take only the first so many images, in the source's order.", unit="images", ge=1)


class DataConfig(Section):
    """Where the images, the image-level labels and, if there are any, the ground truth masks lie."""

    source: Literal["voc", "folder", "samples"] = option(
        "folder",
        "voc: a VOC folder; folder: any folder or bucket prefix; samples: photographs that scikit-image carries.",
    )
    root: str | None = option(None, "Folder or URL prefix of the images (for voc: the folder with JPEGImages).")
    classes: tuple[str, ...] | None = option(
        None,
        "Names of the foreground classes in the order of their ids 1, 2, ...; voc has its 20 by default.",
    )
    labels: str | None = option(
        None,
        "Table of image-level labels for source folder (.csv, .jsonl or .parquet; columns image_id or "
        "image, and classes); null predicts the labels with the classifier.",
    )
    masks: str | None = option(
        None,
        "Folder or URL prefix of ground truth PNGs named like the images, for evaluation (source folder).",
    )
    unknown_classes: Literal["fail", "ignore"] = option(
        "fail",
        "An image whose label names a class that is not listed: fail its row, or drop that label.",
    )
    sbd_lists: tuple[str, str] | None = option(
        None,
        "URLs of SBD's train.txt and val.txt, from which split train_aug is built where the VOC folder "
        "has no such list.",
    )
    train: ImageSetConfig = option(
        ImageSetConfig(), "Images that passes 1 and 2 label, and that AffinityNet and DeepLabv3+ learn from."
    )
    classifier: ImageSetConfig | None = option(
        None, "Images that the CAM classifier learns from; null takes those of data.train."
    )
    predict: ImageSetConfig | None = option(None, "Images that pass 3 segments; null takes those of data.train.")
    score: Split | None = option(
        None,
        "List of those images of data.train on which labels are scored; null scores all with ground truth.",
    )

    @model_validator(mode="after")
    def _check(self) -> "DataConfig":
        if self.source != "samples" and self.root is None:
            raise ValueError(f"source {self.source!r} needs data.root, the folder or URL of the images")
        if self.source == "folder" and self.classes is None:
            raise ValueError("source 'folder' needs data.classes, the list of class names")
        if self.classes is not None:
            ClassList(self.classes)
        return self

    @property
    def class_list(self) -> ClassList:
        """The foreground classes."""
        if self.classes is not None:
            return ClassList(self.classes)
        return ClassList(VOC_CLASSES if self.source == "voc" else ("cat", "cup", "motorbike", "rocket"))


class ImagesConfig(Section):
    """Limits on what is decoded."""

    max_pixels: int = option(
        64_000_000,
        "Larger images are refused before they are decoded.",
        unit="pixels",
        ge=1,
        le=1_000_000_000,
    )


class PredictedLabelsConfig(Section):
    """Image-level labels of images that have none: the classifier's own predictions."""

    threshold: float = option(0.5, "A class is taken as present from this score on.", ge=0.0, le=1.0)
    top_k: int | None = option(None, "Take at most so many classes per image, the best first.", ge=1, le=MAX_CLASSES)
    empty: Literal["background", "fail"] = option(
        "background",
        "What an image with no class above the threshold gets: an all-background label or a failed row.",
    )
