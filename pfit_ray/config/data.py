"""Config of the images, their labels and their classes."""

import re
import unicodedata
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pfit_ray.config.base import Section, option
from pfit_ray.constants import MAX_CLASSES, VOC_CLASSES, ClassList

Split = str

_SHARD = re.compile(r"([0-9]{1,9})/([0-9]{1,9})", re.ASCII)
_WILDCARD = re.compile(r"[*?\[]")
_ONLY_FOR = {
    "table": ("table",),
    "labels": ("folder",),
    "masks": ("folder", "class_folders"),
    "image_column": ("parquet",),
    "id_column": ("parquet",),
    "annotations": ("coco", "cvat", "labelme"),
    "label_column": ("parquet",),
    "mask_column": ("parquet",),
}
"""Fields that some sources alone read."""
_BACKGROUND_NAMES = ("background", "__background__", "_background_")


class ImageSetConfig(Section):
    """Which images of the source one part of the run works on."""

    split: Split | None = option(
        None,
        "Source voc: a list by name (ImageSets/Segmentation/NAME.txt) or the URL of a list file; null uses every "
        "image. Source coco: the NAME of annotations/instances_NAME.json, or the URL of such a file.",
    )
    limit: int | None = option(
        None, "Take only this many images, the first in the source's order.", unit="images", ge=1
    )


class DataConfig(Section):
    """Where the images, the image-level labels and, if there are any, the ground truth masks lie."""

    source: Literal[
        "voc", "coco", "folder", "class_folders", "cvat", "labelme", "table", "tar", "parquet", "samples"
    ] = option(
        "folder",
        "voc: a VOC folder; coco: a COCO folder or any instances JSON with its images; folder: any folder or bucket "
        "prefix; class_folders: one in which each image lies in a folder named like its class; cvat: 'CVAT for images "
        "1.1'; labelme: images with LabelMe's JSON files; table: a CSV, JSON lines or Parquet table that names the "
        "images; tar: tar files in the WebDataset convention; parquet: Parquet files with a column of encoded images; "
        "samples: images that come with scikit-image.",
    )
    root: str | None = option(
        None,
        "Folder, URL prefix or, except for voc and coco, glob of the images or of the tar or Parquet files (voc: the "
        "folder with JPEGImages; coco: the folder with annotations and the images; table: what relative paths start "
        "from, null uses the table's own folder).",
    )
    table: str | None = option(
        None,
        "Source table: a .csv, .tsv, .jsonl or .parquet with the column image (or uri, file_name, path), a path or "
        "URL, and, where they are known, image_id, classes (or a column of 0 and 1 for each), mask (a PNG) and size "
        "(bytes).",
    )
    image_column: str | None = option(
        None,
        "Source parquet: the column of encoded images; null uses the first of image, bytes, jpg, jpeg, png, webp and "
        "img that holds some, else the only column that its metadata call images.",
    )
    label_column: str | None = option(
        None,
        "Source parquet: the column of labels, or a field of it such as objects.category; null uses classes, label or "
        "labels, else the only one whose metadata name its numbers; '' predicts the labels.",
    )
    mask_column: str | None = option(
        None,
        "Source parquet: the column of ground truth PNGs, for evaluation; null uses mask or label if these hold "
        "images, '' none.",
    )
    id_column: str | None = option(
        None,
        "Source parquet: the column of image ids; null uses image_id, if there is one, else the file's stem and the "
        "row number.",
    )
    tar_ids: Literal["key", "path"] = option(
        "key",
        "Source tar: an image's id is its key, or key and a hash of its place, for tar files that repeat keys.",
    )
    tar_first_class: Literal[0, 1] = option(
        0, "Source tar: the number of the first of data.classes in .cls members; WebDataset counts from 0."
    )
    classes: tuple[str, ...] | None = option(
        None,
        "Names of the foreground classes in the order of their ids 1, 2, ...; voc has its 20 by default.",
    )
    sample: float | None = option(
        None,
        "Take this share of the images, chosen by a hash of their ids, whatever their order.",
        gt=0.0,
        le=1.0,
    )
    sample_seed: int = option(0, "Another seed takes other images into the sample.", ge=0, lt=2**63)
    shard: str | None = option(
        None,
        "i/n, i from 1 to n: take the i-th of n shares of the images, split by a hash of their ids; n runs with "
        "the same n take each image once.",
    )
    labels: str | None = option(
        None,
        "Table of image-level labels for source folder (.csv, .tsv, .jsonl or .parquet; columns image_id or image, "
        "and classes, or a column of 0 and 1 for each class), or a pattern of several ones, such as "
        "DATA/*/_classes.csv; null predicts the labels with the classifier.",
    )
    masks: str | None = option(
        None,
        "Folder or URL prefix of ground truth PNGs named like the images, for evaluation (sources folder and "
        "class_folders).",
    )
    annotations: str | None = option(
        None,
        "Source coco: the instances JSON of all images; null finds it by the split, below data.root. Source cvat: the "
        "XML; null uses annotations.xml in data.root. Source labelme: folder of the JSON files; null uses data.root.",
    )
    draw_masks: bool = option(
        False,
        "Sources coco, cvat and labelme: draw ground truth from the annotations' masks and polygons; of coco 255 where "
        "classes overlap or crowds lie, of the others later shapes over earlier ones.",
    )
    unknown_classes: Literal["fail", "ignore"] = option(
        "fail",
        "An image whose label names a class that is not listed: fail its row, or drop that label.",
    )
    sbd_lists: tuple[str, str] | None = option(
        None,
        "URLs of SBD's train.txt and val.txt, from which split train_aug is built if the VOC folder has no such list.",
    )
    train: ImageSetConfig = option(
        ImageSetConfig(), "Images that passes 1 and 2 label, and that AffinityNet and DeepLabv3+ learn from."
    )
    classifier: ImageSetConfig | None = option(
        None, "Images that the CAM classifier learns from; null uses those of data.train."
    )
    predict: ImageSetConfig | None = option(None, "Images that pass 3 segments; null uses those of data.train.")
    score: Split | None = option(
        None,
        "List of those images of data.train on which labels are scored; null scores all with ground truth.",
    )

    @field_validator("classes", mode="before")
    @classmethod
    def _check_names(cls, given: Any) -> Any:
        """Names that YAML takes for something else, and the background, which is no class of a list."""
        names = given if isinstance(given, list | tuple) else ()
        for number, name in enumerate(names, start=1):
            if not isinstance(name, str):
                raise ValueError(
                    f"class {number} is {name!r} of type {type(name).__name__}, which YAML makes of words such as yes, "
                    "no, null and of numbers; put the name into quotes"
                )
            if name.strip().lower() in _BACKGROUND_NAMES:
                raise ValueError(
                    f"class {number} is {name!r}: class id 0 is the background by itself, and the list names the "
                    "foreground classes; leave it out"
                )
            if not name.strip():
                raise ValueError(f"class {number} has no name")
        composed = [unicodedata.normalize("NFC", name) for name in names]
        if doubled := [name for name in composed if composed.count(name) > 1]:
            raise ValueError(f"class {doubled[0]!r} occurs twice in the class list")
        return given

    @model_validator(mode="after")
    def _check(self) -> "DataConfig":
        if self.source not in ("samples", "table") and self.root is None:
            raise ValueError(f"source {self.source!r} needs data.root, the folder or URL of the images")
        if self.source == "table" and self.table is None:
            raise ValueError("source 'table' needs data.table, the table of the images")
        if self.source not in ("voc", "samples") and self.classes is None:
            raise ValueError(f"source {self.source!r} needs data.classes, the list of class names")
        for name, sources in _ONLY_FOR.items():
            if getattr(self, name) is not None and self.source not in sources:
                only = " and ".join(map(repr, sources))
                raise ValueError(f"data.{name} does not apply to source {self.source!r}, only to source {only}")
        if self.draw_masks and self.source not in _ONLY_FOR["annotations"]:
            only = " and ".join(map(repr, _ONLY_FOR["annotations"]))
            raise ValueError(f"data.draw_masks does not apply to source {self.source!r}, only to source {only}")
        if self.shard is not None:
            _shard_numbers(self.shard)
        if self.classes is not None:
            ClassList(self.classes)
        return self

    @property
    def listed_place(self) -> str | None:
        """The folder or prefix all of which is searched for files, whatever lies below it."""
        if self.root is None or self.source not in ("folder", "class_folders", "labelme", "tar", "parquet"):
            return None
        head, wildcard, _ = self.root.partition("**")
        if not wildcard:
            return self.root
        folder, slash, _ = _WILDCARD.split(head, maxsplit=1)[0].rpartition("/")
        return folder or ("/" if slash else ".")

    @property
    def shard_numbers(self) -> tuple[int, int]:
        """Which part of how many is taken: (1, 1) is everything."""
        return _shard_numbers(self.shard or "1/1")

    @property
    def class_list(self) -> ClassList:
        """The foreground classes."""
        if self.classes is not None:
            return ClassList(self.classes)
        return ClassList(VOC_CLASSES if self.source == "voc" else ("cat", "cup", "motorbike", "rocket"))


def _shard_numbers(text: str) -> tuple[int, int]:
    match = _SHARD.fullmatch(text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"data.shard {text!r} must be i/n with i from 1 to n, such as 1/4")
    return int(match[1]), int(match[2])


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

    threshold: float = option(0.5, "A class counts as present from this score on.", ge=0.0, le=1.0)
    top_k: int | None = option(None, "The most classes per image, the best first.", ge=1, le=MAX_CLASSES)
    class_thresholds: dict[str, Annotated[float, Field(ge=0.0, le=1.0)]] = option(
        {}, "Thresholds of single classes, by class name, instead of `threshold`."
    )
    empty: Literal["background", "skip", "fail"] = option(
        "background",
        "What an image with no class at its threshold gets: an all-background label; nothing, with the reason "
        "skipped, which does not count towards max_failed_fraction; or a failed row with the reason no_label.",
    )
