"""Images and labels as other tools write them: one small valid example of each kind, by `list_images`."""

import io
import tarfile
import unicodedata
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
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


def table(text: str, **more: Any) -> Kind:
    """A label table for a.jpg, a cat, and b.jpg, which is cat and dog."""
    fields = {"labels": f"ROOT/{more.pop('name', 'labels.csv')}"}
    images = {"photos/a.jpg": "", "photos/b.jpg": ""}
    name = fields["labels"].removeprefix("ROOT/")
    found = more.pop("found", {"a.jpg": CAT, "b.jpg": BOTH})
    return Kind({**images, name: text}, {"root": "ROOT/photos", **fields}, found, more.pop("notes", {}))


def images_table(text: str, found: dict[str, Keys], name: str = "images.csv", **notes: int) -> Kind:
    told = {words.replace("_", " "): count for words, count in notes.items()}
    return Kind({name: text}, {"source": "table", "table": f"ROOT/{name}"}, found, told)


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
        assert item.offset is not None or item.uri.endswith(place)
    told = {note.what: note.count for note in notes}
    for words, count in kind.notes.items():
        assert [number for what, number in told.items() if words in what] == [count], told
    assert len(told) == len(kind.notes), told
