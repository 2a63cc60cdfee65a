"""Images and labels as other tools write them: one small valid example of each kind, by `list_images`."""

import io
import json
import tarfile
import unicodedata
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.coco_set import write_coco

from pfit_ray.config.data import DataConfig, ImageSetConfig
from pfit_ray.data.sources.listing import list_images
from pfit_ray.data.sources.notes import Notes

CAT, DOG, BOTH = (1,), (2,), (1, 2)
Keys = tuple[int, ...] | None | str
"""Class ids; None: unknown; a text: the reason of a failed row."""


class Kind(NamedTuple):
    """One kind of source.

    Args:
        files: by path; a text that ends in .jpg or .png as its path does is an image of no matter which bytes.
        fields: of `DataConfig`, with ROOT for the folder.
        found: what each image is, by what its place ends in, in the order of the listing.
        notes: how often something is noted, by words of the note.
    """

    files: dict[str, str | bytes]
    fields: dict[str, Any]
    found: dict[str, Keys]
    notes: dict[str, int] = {}  # noqa: RUF012
    split: str | None = None


def tar(*members: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, _, text in (member.partition("=") for member in members):
            info = tarfile.TarInfo(name)
            info.size = len(text.encode() or b"x")
            archive.addfile(info, io.BytesIO(text.encode() or b"x"))
    return buffer.getvalue()


def table(text: str | bytes, **more: Any) -> Kind:
    """A label table for a.jpg, a cat, and b.jpg, which is cat and dog."""
    fields = {"labels": f"ROOT/{more.pop('name', 'labels.csv')}"}
    images = {"photos/a.jpg": "", "photos/b.jpg": ""}
    name = fields["labels"].removeprefix("ROOT/")
    found = more.pop("found", {"a.jpg": CAT, "b.jpg": BOTH})
    return Kind({**images, name: text}, {"root": "ROOT/photos", **fields}, found, more.pop("notes", {}))


def images_table(text: str, found: dict[str, Keys], name: str = "images.csv", **notes: int) -> Kind:
    told = {words.replace("_", " "): count for words, count in notes.items()}
    return Kind({name: text}, {"source": "table", "table": f"ROOT/{name}"}, found, told)


def parquet(columns: dict[str, Any], features: dict[str, Any] | None = None, **fields: Any) -> Kind:
    """A file x.parquet of two images with more columns, and what `datasets` says of them; `found` is the rest."""
    found = fields.pop("found")
    notes = fields.pop("notes", {})
    named = pa.table({"image": pa.array([b"1", b"2"]), **columns})
    if features is not None:
        named = named.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    buffer = io.BytesIO()
    pq.write_table(named, buffer)
    fields = {"source": "parquet", "root": "ROOT", **fields}
    return Kind({"x.parquet": buffer.getvalue()}, fields, {"0": found[0], "1": found[1]}, notes)


NAMED = {"names": ["dog", "CAT"], "_type": "ClassLabel"}


def instances(images: list[str], *annotations: tuple[int, int], **more: Any) -> str:
    """A COCO JSON; annotations are (number of the image from 0, category)."""
    document = {
        "images": [{"id": number, "file_name": name, "height": 4, "width": 6} for number, name in enumerate(images)],
        "annotations": [
            {"id": number, "image_id": image, "category_id": category, "segmentation": [], "iscrowd": 0}
            for number, (image, category) in enumerate(annotations)
        ],
        "categories": [{"id": 0, "name": "background"}, {"id": 17, "name": "cat"}, {"id": 90, "name": "dog"}],
    }
    return json.dumps({**document, **more})


def xml(*names: str) -> str:
    return f"<annotation>{''.join(f'<object><name>{name}</name></object>' for name in names)}</annotation>"


VOC = {
    "JPEGImages/a.png": "",
    "JPEGImages/b.JPG": "",
    "JPEGImages/my photo 1.jpeg": "",
    "SegmentationClass/a.png": "",
    "SegmentationClassAug/b.png": "",
    "Annotations/a.xml": xml("cat"),
    "Annotations/b.xml": xml("cat", "dog"),
    "Annotations/my photo 1.xml": xml("dog"),
}
VOC_FOUND: dict[str, Keys] = {"a.png": CAT, "b.JPG": BOTH, "my photo 1.jpeg": DOG}


def voc(line: str, **notes: int) -> Kind:
    files = {**VOC, "ImageSets/Segmentation/train.txt": line}
    return Kind(files, {"source": "voc", "root": "ROOT"}, VOC_FOUND, notes, "train")


CLASSES = ("cat", "dog", "bus, truck", "Café")
WITHOUT = {"without a column": 2}
NFD = unicodedata.normalize("NFD", "é")

KINDS: dict[str, Kind] = {
    "class folders": Kind(
        {"cat/1.jpg": "", "dog/2.JPEG": "", "dog/notes.txt": "", "background/3.png": "", "gnu/4.png": ""},
        {"source": "class_folders", "root": "ROOT"},
        {"background/3.png": (), "cat/1.jpg": CAT, "dog/2.JPEG": DOG, "gnu/4.png": "unknown_class"},
        {"suffix .txt": 1},
    ),
    "class folders on other levels": Kind(
        {"train/Cat/in/1.jpg": "", "val/dog/2.jpg": "", f"caf{NFD}/3.jpg": "", "cat/dog/4.jpg": "", "5.jpg": ""},
        {"source": "class_folders", "root": "ROOT"},
        {"/5.jpg": "no_label", "/3.jpg": (4,), "/4.jpg": "no_label", "in/1.jpg": CAT, "/2.jpg": DOG},
        {"in case": 2},
    ),
    "a column per class, Roboflow": table(
        "filename, cat, dog\na.jpg, 1, 0\nb.jpg, 1, 1\n", name="_classes.csv", notes={"without a column": 2}
    ),
    "a column per class, others": table(
        "file_name;width;cat;dog;gnu\r\na.jpg;640;1.0;0.0;1\r\nb.jpg;480;True;true;0\r\n",
        notes={"without a column": 2, "column 'gnu'": 1},
    ),
    "a column per class that holds more": table(
        "image,cat,dog\na.jpg,1,0\nb.jpg,1,-1\n",
        found={"a.jpg": CAT, "b.jpg": "no_label"},
        notes={"without a column": 2},
    ),
    "a column per class, without a value": images_table(
        "path,cat,dog\na.jpg,1,0\nb.jpg,,\n", {"a.jpg": CAT, "b.jpg": None}, without_a_column=2
    ),
    "a column per class, Roboflow's folders": Kind(
        {
            "train/a.jpg": "", "train/_classes.csv": "filename, cat, dog, Unlabeled\na.jpg, 1, 0, 0\n",
            "valid/a.jpg": "", "valid/_classes.csv": "filename, cat, dog, Unlabeled\na.jpg, 1, 1, 0\n",
        },
        {"root": "ROOT", "labels": "ROOT/*/_classes.csv"},
        {"train/a.jpg": CAT, "valid/a.jpg": BOTH},
        {"classes of data.classes without a column in ROOT/train": 2, "without a column in ROOT/valid": 2},
    ),
    "a column per class, yes and no": table("image,cat,dog\na.jpg,yes,No\nb.jpg,y,TRUE\n", notes=WITHOUT),
    "a column per class, -1 and 1": table(
        "image,cat,dog\na.jpg,1,1\nb.jpg,-1,1\n", found={"a.jpg": BOTH, "b.jpg": "no_label"}, notes=WITHOUT
    ),
    "a column per class with gaps": table(
        "image,cat,dog\na.jpg,1,\nb.jpg,1,1\n", found={"a.jpg": "no_label", "b.jpg": BOTH}, notes=WITHOUT
    ),
    "several rows per image, one for each box": table(
        "filename,width,class,xmin\na.jpg,9,cat,1\nb.jpg,9,dog,1\nb.jpg,9,cat,2\nb.jpg,9,dog,2\n"
    ),
    "bars between cells": table("image|classes\na.jpg|cat\nb.jpg|cat;dog\n"),
    "Excel's sign": table("sep=;\nimage;classes\na.jpg;cat\nb.jpg;cat, dog\n"),
    "Excel's Unicode text": table("Image\tClasses\r\na.jpg\tcat\r\nb.jpg\tcat;dog\r\n".encode("utf-16")),
    "Excel's quotes": table('"image", "classes"\r\n"a.jpg", "cat"\r\n"b.jpg", "cat, dog"\r\n'),
    "names in camel case": table("ImageID,ClassName\na,cat\nb,dog|cat\n"),
    "sets and tuples as text": table("image,classes\na.jpg,\"('cat',)\"\nb.jpg,\"{'cat', 'dog'}\"\n"),
    "JSON lines of datasets": table(
        '{"file_name": "a.jpg", "label": "cat"}\n{"file_name": "b.jpg", "label": ["dog", "cat"]}\n',
        name="metadata.jsonl",
    ),
    "background as a label": table(
        "image,classes\na.jpg,background\nb.jpg,__background__;cat\n", found={"a.jpg": (), "b.jpg": CAT}
    ),
    "numbers as labels": table(
        "image,classes\na.jpg,1\nb.jpg,\"[0, 1]\"\n", found={"a.jpg": "unknown_class", "b.jpg": "unknown_class"}
    ),
    "signs that separate nothing": table(
        "image,classes\na.jpg,cat/dog\nb.jpg,cat dog\n", found={"a.jpg": "unknown_class", "b.jpg": BOTH}
    ),
    "underscores for blanks": Kind(
        {"potted_plant/1.jpg": "", "TV/2.jpg": ""},
        {"source": "class_folders", "root": "ROOT", "classes": ("potted plant", "tv")},
        {"TV/2.jpg": (2,), "1.jpg": (1,)},
        {"underscores": 2},
    ),
    "pandas with its index": table(
        pd.DataFrame({"image": ["a.jpg", "b.jpg"], "classes": [["cat"], ["cat", "dog"]]}).to_csv()
    ),
    "a trailing comma": table("image,classes,\na.jpg,cat,\nb.jpg,cat;dog\n"),
    "a BOM, tabs and blanks": table("\ufeffImage\tClasses\r\n a.jpg \tcat\r\n\r\nb.jpg\tdog|cat\r\n", name="l.tsv"),
    "lists as text": table("image,classes\na.jpg,['cat']\nb.jpg,\"[\"\"cat\"\", \"\"dog\"\"]\"\n"),
    "lists of numpy as text": table("image,classes\na.jpg,['cat']\nb.jpg,['cat' 'dog']\n"),
    "empty lists as text": table("image,classes\na.jpg,[]\nb.jpg,\n", found={"a.jpg": (), "b.jpg": ()}),
    "classes with commas": table(
        'image,classes\na.jpg,"bus, truck"\nb.jpg,"cat, bus, truck"\n', found={"a.jpg": (3,), "b.jpg": (1, 3)}
    ),
    "another case and other accents": table(
        f"image,classes\na.jpg,CAT\nb.jpg,Caf{NFD}\n",
        found={"a.jpg": CAT, "b.jpg": (4,)},
        notes={"in case": 2},
    ),
    "accents in file names": Kind(
        {f"photos/{NFD}.jpg": "", "photos/ü.jpg": "", "l.csv": "image,classes\né.jpg,cat\nu\u0308.jpg,dog\n"},
        {"root": "ROOT/photos", "labels": "ROOT/l.csv"},
        {f"{NFD}.jpg": CAT, "ü.jpg": DOG},
    ),
    "Windows paths": Kind(
        {
            "photos/x/a.jpg": "",
            "photos/x/b.jpg": "",
            "l.csv": "image,label\nx\\a.jpg,cat\n.\\x\\b.jpg,dog\nC:\\c.jpg,cat\n",
        },
        {"root": "ROOT/photos", "labels": "ROOT/l.csv"},
        {"a.jpg": CAT, "b.jpg": DOG},
        {"Windows": 3, "name no image": 1},
    ),
    "Windows paths of a table of images": images_table(
        "image,classes\nx\\a.jpg,cat\nD:\\b.jpg,dog\n", {"x/a.jpg": CAT, "b.jpg": "missing"}, Windows=2
    ),
    "rows and images that do not meet": Kind(
        {"photos/a.jpg": "", "photos/b.jpg": "", "photos/x.psd": "", "l.csv": "image,classes\na.jpg,cat\nc.jpg,cat\n"},
        {"root": "ROOT/photos", "labels": "ROOT/l.csv"},
        {"a.jpg": CAT, "b.jpg": "no_label"},
        {"name no image": 1, "suffix .psd": 1},
    ),
    "labels dropped on demand": Kind(
        {"a.jpg": "", "l.csv": "image,classes\na,cat;gnu\n"},
        {"root": "ROOT", "labels": "ROOT/l.csv", "unknown_classes": "ignore"},
        {"a.jpg": CAT},
        {"dropped": 1},
    ),
    "a table of images with other names": images_table(
        "file_name,label\na.jpg,cat\nb.jpg,\"['cat', 'dog']\"\n", {"a.jpg": CAT, "b.jpg": BOTH}
    ),
    "a column that looks like labels": images_table(
        "filename,label\na.jpg,3\nb.jpg,7\n", {"a.jpg": None, "b.jpg": None}, look_like_labels=1
    ),
    "several rows of an image": images_table(
        "image,class\na.jpg,cat\na.jpg,cat\nb.jpg,cat\nb.jpg,dog\na.jpg,dog\n",
        {"a.jpg": CAT, "b.jpg": BOTH, "/a.jpg": DOG},
        joined=2,
        further_down=1,
    ),
    "COCO": Kind(
        {"coco": b""},
        {"source": "coco", "root": "ROOT", "classes": ("person", "cat", "dog", "cup")},
        {"09.jpg": (2, 3), "25.jpg": (1, 4), "30.jpg": (), "34.jpg": (3,)},
        split="train2014",
    ),
    "COCO, one instances file among others": Kind(
        {
            "annotations/instances_default.json": instances(["x/a.jpg", "b.jpg"], (0, 17), (1, 17), (1, 90), (1, 0)),
            "annotations/captions_default.json": "{}", "images/default/x/a.jpg": "", "images/default/b.jpg": "",
        },
        {"source": "coco", "root": "ROOT"},
        {"x/a.jpg": CAT, "b.jpg": BOTH},
    ),
    "COCO, FiftyOne's folders": Kind(
        {"labels.json": instances(["a.jpg", "gone.jpg"], (0, 90)), "data/a.jpg": "", "data/left.jpg": ""},
        {"source": "coco", "root": "ROOT"},
        {"a.jpg": DOG, "gone.jpg": ()},
        {"does not name": 1},
    ),
    "COCO, Roboflow's folders": Kind(
        {"train/_annotations.coco.json": instances(["a.jpg"], (0, 17)), "train/a.jpg": "",
         "valid/_annotations.coco.json": instances(["b.jpg"]), "valid/b.jpg": ""},
        {"source": "coco", "root": "ROOT"},
        {"train/a.jpg": CAT},
        split="train",
    ),
    "COCO, ids as pandas writes them": Kind(
        {"i.json": instances(["a.jpg"], (0, 17.0)), "a.jpg": ""},  # type: ignore[arg-type]
        {"source": "coco", "root": "ROOT"},
        {"a.jpg": CAT},
    ),
    "COCO, a test set": Kind(
        {"image_info_test.json": instances(["a.jpg", "b.jpg"]), "a.jpg": "", "b.jpg": ""},
        {"source": "coco", "root": "ROOT"},
        {"a.jpg": None, "b.jpg": None},
        {"no annotation at all": 2},
    ),
    "COCO, names that are no paths inside": Kind(
        {"i.json": instances(["a.jpg", "/home/me/b.jpg", "../c.jpg", "x\\d.jpg"], (0, 17), (3, 90), (0, 5), (9, 17)),
         "a.jpg": "", "x/d.jpg": ""},
        {"source": "coco", "root": "ROOT"},
        {"a.jpg": "no_label", "": "bad_id", " ": "bad_id", "x/d.jpg": DOG},
        {"name no image": 1},
    ),
    "CVAT for images": Kind(
        {
            "annotations.xml": "<annotations><version>1.1</version><meta><task><labels><label><name>cat</name></label>"
            '</labels></task></meta><image id="0" name="a.jpg" width="6" height="4"><box label="Cat" occluded="0" '
            'xtl="0" ytl="0" xbr="2" ybr="2" z_order="0"/></image>'
            '<image id="1" name="b.jpg" subset="x" width="6" height="4">'
            '<polyline label="dog" points="1,1;2,2"><attribute name="cat">1</attribute></polyline><tag label="cat"/>'
            '<points label="ignored" points="1,1"/></image><image id="2" name="c.jpg" width="6" height="4"/>'
            '<image id="3" name="../d.jpg" width="6" height="4"/></annotations>',
            "images/a.jpg": "", "images/x/b.jpg": "", "images/c.jpg": "", "images/e.jpg": "",
        },
        {"source": "cvat", "root": "ROOT"},
        {"a.jpg": CAT, "x/b.jpg": BOTH, "c.jpg": (), "": "bad_id"},
        {"in case": 1, "does not name": 1},
    ),
    "CVAT before anything is drawn": Kind(
        {"a.xml": '<annotations><image id="0" name="a.jpg" width="6" height="4"/></annotations>', "a.jpg": ""},
        {"source": "cvat", "root": "ROOT", "annotations": "ROOT/a.xml"},
        {"a.jpg": None},
        {"no annotation at all": 1},
    ),
    "LabelMe": Kind(
        {
            "a.jpg": "", "a.json": json.dumps({"shapes": [{"label": "cat", "points": [[1, 1]], "shape_type": "point"},
                                                          {"label": "_background_", "points": []}], "flags": None}),
            "x/b.png": "", "x/b.json": json.dumps({"shapes": [{"label": "dog", "points": []}],
                                                   "flags": {"cat": True, "checked": True}}),
            "c.jpg": "", "d.jpg": "", "d.json": "{}", "e.json": "{}",
        },
        {"source": "labelme", "root": "ROOT"},
        {"a.jpg": CAT, "c.jpg": None, "d.jpg": "no_label", "x/b.png": BOTH},
        {"without a JSON": 1, "without an image of their name": 1},
    ),
    "Parquet, a column per class": parquet({"cat": [1, 0], "dog": [True, False], "gnu": [0, 1], "width": [640, 480]},
        found=(BOTH, ()), notes={"column 'gnu'": 1, "without a column": 2}),
    "Parquet, numbers with names": parquet({"label": [1, 0]}, {"label": NAMED}, found=(CAT, DOG)),
    "Parquet, lists of numbers": parquet(
        {"labels": pa.array([[0, 1], []], pa.large_list(pa.int64()))},
        {"labels": {"feature": NAMED, "_type": "List"}}, found=(BOTH, ()),
    ),
    "Parquet, -1 and null are no label": parquet({"label": [-1, None]}, {"label": NAMED}, found=(None, None)),
    "Parquet, a number without a name": parquet({"label": [7, 1]}, {"label": NAMED}, found=("unknown_class", CAT)),
    "Parquet, objects in an image": parquet(
        {"objects": [{"category": [1], "area": [3]}, {"category": [0, 1], "area": [3, 4]}]},
        {"objects": {"feature": {"category": NAMED, "area": {"_type": "Value"}}, "_type": "Sequence"}},
        found=(CAT, BOTH),
    ),
    "Parquet, texts of other types": parquet(
        {"classes": pa.array(["cat", "cat;dog"]).dictionary_encode()}, found=(CAT, BOTH)
    ),
    "Parquet, numbers that nothing names": parquet(
        {"label": [1, 0]}, found=(None, None), notes={"'label' looks like": 2}
    ),
    "Parquet, two columns that could be meant": parquet(
        {"fine_label": [1, 0], "coarse_label": [1, 0]}, {"fine_label": NAMED, "coarse_label": NAMED},
        found=(None, None), notes={"'fine_label' looks like": 2, "'coarse_label' looks like": 2},
    ),
    "a list of what img2dataset is given": images_table("URL,TEXT\nhttps://x/a.jpg,a cat\n", {"x/a.jpg": None}),
    "tar samples whose .json is a list": Kind(
        {"x.tar": tar("a.jpg", 'a.json=["cat", "dog"]', "b.jpg", 'b.json=["a caption"]')},
        {"source": "tar", "root": "ROOT"},
        {"a": BOTH, "b": None},
        {"look like labels": 1},
    ),
    "tar samples with two images of a name": Kind(
        {"x.tar": tar("a.jpg", "a.png", "a.cls=cat")},
        {"source": "tar", "root": "ROOT"},
        {"a": CAT},
        {"further images": 1},
    ),
    "tar samples with what is no label member": Kind(
        {"x.tar": tar("a.jpg", "a.label=cat", "b.jpg", "b.cls=-1", "c.jpg", "c.cls=7", "d.jpg", "d.cls= ")},
        {"source": "tar", "root": "ROOT"},
        {"a": None, "b": "unknown_class", "c": "unknown_class", "d": ()},
        {"suffix .label": 1},
    ),
    "tar samples with dots, out of order": Kind(
        {"x.tar": tar("./cat.v1.jpg", "b.input.jpg", "b.cls=1", "./cat.v1.cls=0", "c.png", "d.cls=1")},
        {"source": "tar", "root": "ROOT"},
        {"cat.v1": CAT, "b.input": DOG, "c": None},
        {"without an image": 1},
    ),
    "img2dataset": Kind(
        {
            "00000.tar": tar(
                "000.jpg", "000.txt=a cat", '000.json={"status": "success", "classes": ["cat"]}',
                "001.txt=a dog", '001.json={"status": "failed_to_download"}',
            ),
            "00000_stats.json": "{}",
        },
        {"source": "tar", "root": "ROOT"},
        {"000": CAT},
        {"without an image": 1, "suffix .json": 1},
    ),
    "appended tars": Kind(
        {"x.tar": tar("a.jpg", "a.cls=0") + tar("b.jpg", "b.cls=dog")},
        {"source": "tar", "root": "ROOT"},
        {"a": CAT, "b": DOG},
        {"appended": 1},
    ),
    "VOC, plain names": voc("a\nb\nmy photo 1\n"),
    "VOC, flags": voc("a 1\nb  1\nmy photo 1 -1\n"),
    "VOC, suffixes": voc("a.png\r\nb.JPG\r\nmy photo 1.jpeg\r\n"),
    "VOC, blanks and a BOM": voc("\ufeffa \r\n\r\n b\t\r\nmy photo 1  \r\n"),
    "VOC, lists in Main": Kind(
        {**VOC, "ImageSets/Main/train.txt": "a  1\nb -1\nmy photo 1  0\n"},
        {"source": "voc", "root": "ROOT"}, VOC_FOUND, split="train",
    ),
    "VOC, masks without images": Kind(
        {**VOC, "SegmentationClass/z.png": ""},
        {"source": "voc", "root": "ROOT"},
        VOC_FOUND,
        {"without an image of their name": 1},
    ),
    "VOC, annotations that cannot be read": Kind(
        {**VOC, "Annotations/a.xml": "<annotation><object/></annotation>", "Annotations/b.xml": "<!DOCTYPE a><a/>"},
        {"source": "voc", "root": "ROOT"}, {**VOC_FOUND, "a.png": "no_label", "b.JPG": "no_label"},
    ),
    "VOC, paths": voc(
        "/JPEGImages/a.png /SegmentationClass/a.png\nJPEGImages/b.jpg /SegmentationClassAug/b.png\n"
        "VOC2012/JPEGImages/my photo 1.jpg\n"
    ),
    "VOC, without a list": Kind(
        {**VOC, "JPEGImages/x.psd": ""}, {"source": "voc", "root": "ROOT"}, VOC_FOUND, {"suffix .psd": 1}
    ),
}  # fmt: skip


def write(root: Path, kind: Kind) -> None:
    for name, data in kind.files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    if "coco" in kind.files:
        (root / "coco").unlink()
        write_coco(root)


@pytest.mark.parametrize("name", KINDS)
def test_what_is_understood_and_what_is_said(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    write(tmp_path, kind)
    fields = {key: value.replace("ROOT", str(tmp_path)) if isinstance(value, str) else value
              for key, value in kind.fields.items()}  # fmt: skip
    notes = Notes()
    items = list(list_images(DataConfig(**{"classes": CLASSES, **fields}), ImageSetConfig(split=kind.split), notes))
    assert [item.reason or item.keys for item in items] == list(kind.found.values())
    for item, place in zip(items, kind.found, strict=True):
        assert item.offset is not None or item.row == (int(place) if place.isdigit() else None)
        assert item.offset is not None or item.row is not None or item.uri.endswith(place.strip())
    told = {note.what.replace(str(tmp_path), "ROOT"): note.count for note in notes}
    for words, count in kind.notes.items():
        assert [number for what, number in told.items() if words in what] == [count], told
    assert len(told) == len(kind.notes), told
