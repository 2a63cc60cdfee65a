"""Ground truth as other tools write it: one small valid example of each kind, from the listing to class ids."""

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from pfit_ray.config.data import DataConfig, ImageSetConfig
from pfit_ray.constants import voc_palette
from pfit_ray.data.images import encode_grey, encode_label
from pfit_ray.data.sources.listing import list_images
from pfit_ray.data.sources.mask_ids import mask_ids
from pfit_ray.data.sources.notes import Notes
from pfit_ray.errors import RowError
from pfit_ray.tasks.score import is_classless, read_ground_truth

MASK = np.array([[0, 1, 1, 0, 0, 2], [0, 1, 1, 0, 0, 2], [0, 0, 0, 0, 0, 2], [255, 255, 0, 0, 0, 0]], np.uint8)
SURE = np.where(MASK == 255, 0, MASK).astype(np.uint8)
VOC = [tuple(colour) for colour in voc_palette().tolist()]
VOC_IDS = np.array([0, 8, 12])
OWN = {0: (0, 0, 0), 1: (250, 50, 120), 2: (10, 200, 30), 255: (255, 255, 255)}
OWN_MAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ndog:10,200,30::\ncat:250,50,120::\nvoid:255,255,255::\n"


def picture(label: np.ndarray, colours: Any = None, mode: str = "L", order: Sequence[int] = ()) -> bytes:
    """A PNG of numbers, or with colours by class id of colours; `order`: the class ids of a palette's indices."""
    if mode == "P":
        image = Image.fromarray(np.vectorize(list(order).index)(label).astype(np.uint8))
        image.putpalette(bytes(value for key in order for value in colours[key]))
    elif colours is not None:
        image = Image.fromarray(np.array([[colours[key] for key in row] for row in label.tolist()], np.uint8))
        image = image.convert(mode)
    else:
        image = Image.fromarray(label).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


class Kind(NamedTuple):
    """One kind of ground truth.

    Args:
        files: by path; a.jpg is the image.
        fields: of `DataConfig`, with ROOT for the folder.
        found: class ids (4, 6); None: there is no ground truth; a text: words of why it is refused.
        notes: words of what is noted.
    """

    files: dict[str, bytes | str]
    found: np.ndarray | str | None
    fields: dict[str, Any] = {}  # noqa: RUF012
    notes: tuple[str, ...] = ()
    split: str | None = None


def folder(mask: bytes | str, found: np.ndarray | str | None, name: str = "a.png", **more: Any) -> Kind:
    files = {"images/a.jpg": "", f"masks/{name}": mask, **more.pop("files", {})}
    fields = {"root": "ROOT/images", "masks": "ROOT/masks", **more.pop("fields", {})}
    return Kind(files, found, fields, **more)


def voc(
    label: np.ndarray,
    found: np.ndarray | None,
    line: str = "a\n",
    place: str = "SegmentationClass",
    mask: bytes = b"",
    notes: tuple[str, ...] = (),
) -> Kind:
    files: dict[str, bytes | str] = {"JPEGImages/a.jpg": "", "ImageSets/Segmentation/train.txt": line}
    files[f"{place}/a.png"] = mask or encode_label(label.astype(np.uint8))
    return Kind(files, found, {"source": "voc", "root": "ROOT"}, notes, "train")


def coco(*annotations: dict[str, Any]) -> str:
    return json.dumps({
        "images": [{"id": 7, "file_name": "a.jpg", "height": 4, "width": 6}],
        "annotations": [{"id": number, "image_id": 7, "iscrowd": 0, **one} for number, one in enumerate(annotations)],
        "categories": [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}, {"id": 44, "name": "bottle"}],
    })  # fmt: skip


def drawn(name: str, text: str, found: np.ndarray | str | None, source: str, **more: Any) -> Kind:
    fields = {"source": source, "root": "ROOT", "draw_masks": True, **more.pop("fields", {})}
    return Kind({"a.jpg": "", name: text}, found, fields, **more)


def cvat(*shapes: str) -> str:
    return f'<annotations><image id="0" name="a.jpg" width="6" height="4">{"".join(shapes)}</image></annotations>'


def labelme(*shapes: tuple[str, str, list[list[float]]], **more: Any) -> str:
    told = [{"label": label, "shape_type": kind, "points": points, **more} for label, kind, points in shapes]
    return json.dumps({"version": "5.5.0", "shapes": told, "imagePath": "a.jpg", "imageHeight": 4, "imageWidth": 6})


CAT = {"category_id": 17, "segmentation": [[1, 0, 3, 0, 3, 2, 1, 2]]}
DOG = {"category_id": 18, "segmentation": {"size": [4, 6], "counts": [20, 3, 1]}}
CROWD = {"category_id": 17, "segmentation": {"size": [4, 6], "counts": [3, 1, 3, 1, 16]}, "iscrowd": 1}
CAT_BOX = '<box label="cat" xtl="1" ytl="0" xbr="3" ybr="2" z_order="0"/>'
DOG_MASK = '<mask label="dog" rle="0, 3" left="5" top="0" width="1" height="3" z_order="0"/>'
IGNORED = '<mask label="ignored" rle="0, 2" left="0" top="3" width="2" height="1" z_order="0"/>'
CAT_OUTLINE = ("cat", "polygon", [[1.0, 0.0], [2.0, 0.0], [2.0, 1.0], [1.0, 1.0]])
DOG_OUTLINE = ("dog", "rectangle", [[5.0, 2.0], [5.0, 0.0]])
UNSURE_OUTLINE = ("__ignore__", "polygon", [[0.0, 3.0], [1.0, 3.0], [1.0, 3.0]])

NO_TRUTH = ("without ground truth",)

KINDS = {
    "palette PNG": folder(encode_label(MASK), MASK),
    "grey PNG": folder(encode_grey(MASK), MASK),
    "upper-case suffix": folder(encode_label(MASK), MASK, name="a.PNG"),
    "16 bits": folder(encode_grey(MASK.astype(np.uint16)), MASK),
    "grey of 2 bits": folder(picture(SURE, mode="P", colours=VOC, order=(0, 1, 2)), SURE),
    "1 bit": folder(encode_grey(MASK == 1), (MASK == 1).astype(np.uint8)),
    "RGB in VOC's colours": folder(picture(MASK, VOC, "RGB"), MASK),
    "RGBA in VOC's colours": folder(picture(MASK, VOC, "RGBA"), MASK),
    "CVAT's Segmentation mask": folder(picture(MASK, OWN, "RGB"), MASK, files={"masks/labelmap.txt": OWN_MAP}),
    "CVAT's, labelmap.txt above": folder(picture(MASK, OWN, "RGB"), MASK, files={"labelmap.txt": OWN_MAP}),
    "palette in the colours of a labelmap.txt": folder(
        picture(MASK, OWN, "P", (255, 2, 1, 0)), MASK, files={"labelmap.txt": OWN_MAP}
    ),
    "a class of labelmap.txt that the run lacks": folder(
        picture(MASK, OWN, "RGB"), "not in data.classes", files={"labelmap.txt": OWN_MAP.replace("dog", "gnu")}
    ),
    "the same, dropped on demand": folder(
        picture(MASK, OWN, "RGB"), np.where(MASK == 2, 0, MASK), files={"labelmap.txt": OWN_MAP.replace("dog", "gnu")},
        fields={"unknown_classes": "ignore"},
    ),
    "colours that nothing names": folder(picture(MASK, OWN, "RGB"), "none of VOC's"),
    "VOC's colours in another order of numbers": folder(picture(MASK, VOC, "P", (0, 2, 1, 255)), "disagree"),
    "transparent pixels": folder(picture(MASK, [(*VOC[key], 7) for key in range(256)], "RGBA"), "transparent"),
    "COCO's original ids": folder(encode_grey(np.where(MASK == 2, 90, MASK).astype(np.uint8)), "holds label 90"),
    "an id more than there are classes": folder(
        encode_grey(np.where(MASK == 2, 3, MASK).astype(np.uint8)), "holds label 3"
    ),
    "0 and 255 alone": folder(encode_grey(np.where(MASK > 0, 255, 0).astype(np.uint8)), np.where(MASK > 0, 255, 0)),
    "another size": folder(encode_label(MASK[:2]), "its image has 6 x 4"),
    "a JPEG by its content": folder(b"\xff\xd8\xff\xe0nonsense", "not a PNG"),
    "x_mask.png": folder(encode_label(MASK), None, name="a_mask.png", notes=("without an image of their name",)),
    "x.jpg.png": folder(encode_label(MASK), None, name="a.jpg.png", notes=("without an image of their name",)),
    "a JPEG mask": folder("x", None, name="a.jpg", notes=("are not PNG",)),
    "masks in other folders than the images": folder(
        encode_label(MASK), None, name="x/a.png", files={"masks/y/a.png": ""}, notes=("without an image of their name",)
    ),
    "masks below the images": Kind(
        {"a.jpg": "", "masks/a.png": encode_label(MASK), "masks/b.jpg": ""}, MASK,
        {"root": "ROOT", "masks": "ROOT/masks"}, ("are not PNG",),
    ),
    "masks beside the images": Kind(
        {"a.jpg": "", "a.png": encode_label(MASK)}, MASK, {"root": "ROOT", "masks": "ROOT"}
    ),
    "a table with masks": Kind(
        {"t.csv": "image,mask,classes\na.jpg,m/1.png,cat\n", "m/1.png": picture(MASK, OWN, "RGB"),
         "labelmap.txt": OWN_MAP},
        MASK, {"source": "table", "table": "ROOT/t.csv"},
    ),
    "VOC": voc(VOC_IDS[SURE], SURE),
    "VOC, classes beside the run's": voc(np.array([0, 8, 15])[SURE], np.where(SURE == 2, 0, SURE)),
    "VOC, in colours": voc(SURE, SURE, mask=picture(VOC_IDS[SURE], VOC, "RGB")),
    "VOC, SBD's list": voc(
        VOC_IDS[SURE], SURE, "/JPEGImages/a.jpg /SegmentationClassAug/a.png\n", "SegmentationClassAug"
    ),
    "VOC, a list whose mask is missing": voc(
        MASK, None, "JPEGImages/a.jpg SegmentationClassAug/a.png\n", "Other", notes=("do not exist",)
    ),
    "COCO, polygons and run lengths": drawn("i.json", coco(CAT, DOG), SURE, "coco"),
    "COCO, a crowd": drawn("i.json", coco(CAT, CROWD), np.where(MASK == 2, 0, MASK), "coco"),
    "COCO, a box without a mask": drawn(
        "i.json", coco({**CAT, "segmentation": []}), None, "coco", notes=NO_TRUTH
    ),
    "COCO, run lengths of another size": drawn(
        "i.json", coco({**DOG, "segmentation": {"size": [6, 4], "counts": [24]}}), "cannot be drawn", "coco"
    ),
    "CVAT, a box, masks and what is ignored": drawn("annotations.xml", cvat(CAT_BOX, DOG_MASK, IGNORED), MASK, "cvat"),
    "CVAT, later and higher shapes": drawn(
        "annotations.xml",
        cvat('<polygon label="dog" points="1,0;3,0;3,2;1,2" z_order="-1"/>', CAT_BOX,
             '<box label="cat" xtl="5" ytl="0" xbr="6" ybr="3" z_order="1"/>',
             '<polygon label="dog" points="5,0;6,0;6,3;5,3" z_order="2"/>', IGNORED),
        MASK, "cvat",
    ),
    "CVAT, a line": drawn(
        "annotations.xml", cvat('<polyline label="cat" points="1,1;2,2"/>'), None, "cvat", notes=NO_TRUTH
    ),
    "CVAT, a mask that leaves the image": drawn(
        "annotations.xml", cvat(DOG_MASK.replace('left="5"', 'left="6"')), "cannot be drawn", "cvat"
    ),
    "LabelMe": drawn("a.json", labelme(CAT_OUTLINE, DOG_OUTLINE, UNSURE_OUTLINE), MASK, "labelme"),
    "LabelMe, later shapes and holes": drawn(
        "a.json",
        labelme(("dog", "rectangle", [[0.0, 0.0], [5.0, 3.0]]), ("_background_", "rectangle", [[0.0, 0.0], [4.0, 3.0]]),
                ("_background_", "rectangle", [[5.0, 3.0], [5.0, 3.0]]), CAT_OUTLINE, UNSURE_OUTLINE),
        MASK, "labelme",
    ),
    "LabelMe, a mask": drawn(
        "a.json",
        labelme(("cat", "mask", [[1, 0], [2, 1]]), mask=base64.b64encode(encode_grey(np.ones((2, 2), bool))).decode()),
        np.where(SURE == 1, 1, 0), "labelme",
    ),
    "LabelMe, a circle": drawn(
        "a.json", labelme(("cat", "circle", [[2.0, 1.0], [2.0, 2.0]])),
        np.array([[0, 0, 1, 0, 0, 0], [0, 1, 1, 1, 0, 0], [0, 0, 1, 0, 0, 0], [0] * 6]), "labelme",
    ),
    "LabelMe, a point": drawn("a.json", labelme(("cat", "point", [[1, 1]])), None, "labelme", notes=NO_TRUTH),
    "LabelMe, a polygon far outside": drawn(
        "a.json", labelme(("cat", "polygon", [[0, 0], [1e9, 0], [0, 1e9]])), "cannot be drawn", "labelme"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_what_is_read_and_what_is_refused(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    for path, content in kind.files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content if isinstance(content, bytes) else content.encode())
    fields = {key: value.replace("ROOT", str(tmp_path)) if isinstance(value, str) else value
              for key, value in kind.fields.items()}  # fmt: skip
    data, notes = DataConfig(**{"classes": ("cat", "dog"), "unknown_classes": "fail", **fields}), Notes()
    (item,) = list_images(data, ImageSetConfig(split=kind.split), notes)
    told = [note.what for note in notes]
    assert len(told) == len(kind.notes), told
    assert all(words in what for words, what in zip(kind.notes, told, strict=True)), told
    if kind.found is None:
        assert item.mask_uri is None
        return
    assert item.mask_uri is not None
    if isinstance(kind.found, str):
        with pytest.raises(RowError, match=kind.found) as caught:
            read_ground_truth(item.mask_uri, mask_ids(data), 2, MASK.shape)
        assert caught.value.reason == "bad_mask"
        return
    truth = read_ground_truth(item.mask_uri, mask_ids(data), 2, MASK.shape)
    np.testing.assert_array_equal(truth, kind.found)
    assert is_classless(truth) == (name == "0 and 255 alone")
