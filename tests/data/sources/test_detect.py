import json
from pathlib import Path

import pytest

from pfit_ray.constants import VOC_CLASSES
from pfit_ray.data.sources.detect import detect
from pfit_ray.errors import UserError


def lay(root: Path, *names: str, **texts: str) -> str:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    for name, text in texts.items():
        (root / name.replace("__", ".")).write_text(text)
    return str(root)


@pytest.mark.parametrize("split", ["", "train/"])
def test_class_folders(tmp_path: Path, split: str) -> None:
    place = lay(tmp_path, *(f"{split}{name}/{n}.JPG" for name in ("dog", "cat", "background") for n in range(3)))
    found = detect(place)
    assert (found.source, found.images, found.classes, found.labelled) == ("class_folders", 9, ("cat", "dog"), True)
    assert found.told == ("9 images in 3 class folders (background 3, cat 3, dog 3)",)


@pytest.mark.parametrize(
    ("name", "text", "classes"),
    [
        ("labels__csv", "image,classes\na.jpg,cat;dog\nb.jpg,\n", ("cat", "dog")),
        ("labels__tsv", "file_name\tlabel\na.jpg\tcat\n", ("cat",)),
        ("_classes__csv", "filename,cat,dog\na.jpg,1,0\nb.jpg,0,0\n", ("cat", "dog")),
    ],
)
def test_label_tables(tmp_path: Path, name: str, text: str, classes: tuple[str, ...]) -> None:
    found = detect(lay(tmp_path, "a.jpg", "b.jpg", **{name: text}))
    assert (found.source, found.images, found.classes, found.labelled) == ("folder", 2, classes, True)
    assert found.fields == {"labels": str(tmp_path / name.replace("__", "."))}


def test_images_alone_have_no_labels(tmp_path: Path) -> None:
    found = detect(lay(tmp_path, "a.png", "x/b.png", "notes.csv", "._c.jpg"))
    assert (found.source, found.images, found.classes, found.labelled) == ("folder", 2, (), False)
    assert found.told == ("2 images without labels, in 1 folder(s) and 1 beside them",)


def test_voc_and_coco(tmp_path: Path) -> None:
    voc = detect(lay(tmp_path / "voc", "JPEGImages/a.jpg", "Annotations/a.xml", "ImageSets/Segmentation/train.txt"))
    assert (voc.source, voc.images, voc.classes, voc.labelled) == ("voc", 1, VOC_CLASSES, True)
    assert voc.fields == {"train": {"split": "train"}}
    root = tmp_path / "coco"
    lay(root, "train2014/a.jpg", "annotations/instances_train2014.json", "annotations/instances_val2014.json")
    document = {"categories": [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}]}
    (root / "annotations" / "instances_train2014.json").write_text(json.dumps(document))
    coco = detect(str(root))
    assert (coco.source, coco.images, coco.classes) == ("coco", 1, ("person", "toothbrush"))


def test_archives(tmp_path: Path) -> None:
    assert detect(lay(tmp_path / "tar", "00.tar", "01.tar", "00.json")).source == "tar"
    assert detect(lay(tmp_path / "pq", "a.parquet")).source == "parquet"


def test_what_no_source_reads_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"2 \.psd, 1 \.txt"):
        detect(lay(tmp_path / "a", "a.psd", "b.psd", "c.txt"))
    with pytest.raises(UserError, match="no folder"):
        detect(str(tmp_path / "nowhere"))


def test_what_annotation_tools_write(tmp_path: Path) -> None:
    image = '<image name="a.jpg" height="4" width="6"><tag label="dog"/><tag label="ignored"/></image>'
    cvat = f"<annotations>{image}</annotations>"
    found = detect(lay(tmp_path / "cvat", "images/a.jpg", annotations__xml=cvat))
    assert (found.source, found.images, found.classes, found.labelled) == ("cvat", 1, ("dog",), True)
    shapes = [{"label": name, "points": []} for name in ("dog", "cat", "_background_", "__ignore__")]
    found = detect(lay(tmp_path / "labelme", "a.jpg", "b.jpg", "b.json", a__json=json.dumps({"shapes": shapes})))
    assert (found.source, found.images, found.classes, found.labelled) == ("labelme", 2, ("cat", "dog"), True)
    root = tmp_path / "roboflow"
    for split in ("train", "valid"):
        lay(root / split, "a.jpg", _classes__csv=f"filename, {split}, Unlabeled\na.jpg, 1, 0\n")
    found = detect(str(root))
    assert (found.source, found.images, found.classes, found.labelled) == ("folder", 2, ("train", "valid"), True)
    assert found.fields == {"labels": str(root / "**" / "_classes.csv")}


def test_a_voc_folder_with_classes_of_its_own(tmp_path: Path) -> None:
    labelmap = "# label:color_rgb\nbackground:0,0,0::\nfox:128,0,0::\nignored:224,224,192::\n"
    assert detect(lay(tmp_path, "JPEGImages/a.jpg", labelmap__txt=labelmap)).classes == ("fox",)
