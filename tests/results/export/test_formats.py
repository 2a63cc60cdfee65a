"""Each format is read back by the tool that it is made for; the masks are those of the run."""

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image, ImageDraw
from support.export_run import CLASSES, ExportRun, foreign_maps
from support.small_runs import label_map

from pfit_ray.config.load import validate
from pfit_ray.errors import UserError
from pfit_ray.results.export import FORMATS, ExportOptions, export_run

DATUMARO = """
from datumaro.components.dataset import Dataset
from datumaro.components.annotation import AnnotationType
dataset = Dataset.import_from(folder, FORMAT)
names = [label.name for label in dataset.categories()[AnnotationType.label].items]
ids = {"background": 0, "cat": 1, "dog": 2, "red <fox>": 3, "ignored": 255}
for item in dataset:
    found[item.id] = np.zeros(item.media.size, np.uint8)
    for one in item.annotations:
        if one.type == AnnotationType.mask:
            found[item.id][np.asarray(one.image, bool)] = ids[names[one.label]]
"""
LABELME = """
import json
from pathlib import Path
from labelme._label_file import read_label_file
from labelme.utils import shapes_to_label
names = (Path(folder) / "labels.txt").read_text().splitlines()
ids = {name: number - 1 for number, name in enumerate(names)}
for path in Path(folder).glob("*.json"):
    if path.name != "card.json":
        file = read_label_file(str(path))
        document = json.loads(path.read_text())
        size = document["imageHeight"], document["imageWidth"], 3
        label, _ = shapes_to_label(size, file.shapes, ids)
        found[path.stem] = label.astype(np.uint8)
"""
KEPT = ("a", "b", "c", "turned")


def export(finished: ExportRun, tmp_path: Path, name: str) -> Path:
    export_run(finished.config, finished.directory, str(tmp_path / "out"), ExportOptions(name))
    return tmp_path / "out"


def assert_maps(found: dict[str, np.ndarray], finished: ExportRun, unsure: bool = True) -> None:
    assert sorted(found) == sorted(KEPT)
    for image_id in KEPT:
        label = finished.labels[image_id]
        expected = label if unsure else np.where(label == 255, 0, label)
        np.testing.assert_array_equal(found[image_id], expected, err_msg=image_id)


def test_voc_folder(finished: ExportRun, tmp_path: Path) -> None:
    out = export(finished, tmp_path, "voc")
    assert (out / "labelmap.txt").read_text() == (
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:128,0,0::\ndog:0,128,0::\nred <fox>:128,128,0::\n"
        "ignored:224,224,192::\n"
    )
    assert (out / "ImageSets" / "Segmentation" / "train.txt").read_text().split() == list(KEPT)
    masks = {path.stem: label_map(path.read_bytes()) for path in (out / "SegmentationClass").iterdir()}
    assert_maps(masks, finished)


@pytest.mark.parametrize(("name", "unsure"), [("voc", True), ("coco", False), ("cvat", False)])
def test_datumaro_reads(finished: ExportRun, tmp_path: Path, name: str, unsure: bool) -> None:
    out = export(finished, tmp_path, name)
    found = foreign_maps(
        "datumaro", DATUMARO.replace("FORMAT", repr("voc_segmentation" if name == "voc" else name)), out, tmp_path
    )
    assert_maps(found, finished, unsure)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools on numpy 2
def test_pycocotools_reads(finished: ExportRun, tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    out = export(finished, tmp_path, "coco")
    coco = COCO(str(out / "annotations" / "instances_train.json"))
    assert {one["id"]: one["name"] for one in coco.loadCats(coco.getCatIds())} == dict(enumerate(CLASSES, start=1))
    found = {}
    for image in coco.loadImgs(coco.getImgIds()):
        label = np.zeros((image["height"], image["width"]), np.uint8)
        for annotation in coco.loadAnns(coco.getAnnIds(image["id"])):
            mask = coco.annToMask(annotation).astype(bool)
            assert annotation["area"] == mask.sum()
            left, top, width, height = annotation["bbox"]
            rows, columns = np.nonzero(mask)
            assert (top, left) == (rows.min(), columns.min())
            assert (height, width) == (np.ptp(rows) + 1, np.ptp(columns) + 1)
            label[mask] = annotation["category_id"]
        found[image["file_name"].partition(".")[0]] = label
        assert (out / "images" / "train" / image["file_name"]).exists()
    assert_maps(found, finished, unsure=False)


def test_labelme_reads(finished: ExportRun, tmp_path: Path) -> None:
    out = export(finished, tmp_path, "labelme")
    assert_maps(foreign_maps("labelme", LABELME, out, tmp_path), finished)


def test_labelme_polygons_painted_as_labelme_paints(finished: ExportRun, tmp_path: Path) -> None:
    """The same without LabelMe, which needs Qt: its `shapes_to_label` fills polygons by Pillow, in their order."""
    out = export(finished, tmp_path, "labelme")
    ids = {name: number - 1 for number, name in enumerate((out / "labels.txt").read_text().splitlines())}
    found = {}
    for path in set(out.glob("*.json")) - {out / "card.json"}:
        document = json.loads(path.read_text())
        assert (out / document["imagePath"]).exists()
        label = np.zeros((document["imageHeight"], document["imageWidth"]), np.uint8)
        for shape in document["shapes"]:
            assert len(shape["points"]) > 2
            mask = Image.new("L", label.shape[::-1])
            ImageDraw.Draw(mask).polygon([tuple(point) for point in shape["points"]], fill=1, outline=1)
            label[np.asarray(mask) > 0] = ids[shape["label"]] % 256
        found[path.stem] = label
    assert_maps(found, finished)


def test_datasets_reads(finished: ExportRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    out = export(finished, tmp_path, "hf")
    loaded = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.features["classes"].feature.dtype == "string"
    rows = {row["image_id"]: row for row in loaded}
    assert_maps({image_id: np.asarray(row["label"]) for image_id, row in rows.items()}, finished)
    assert rows["a"]["classes"] == list(CLASSES)
    assert rows["a"]["walk_margin"] == 0.5
    assert rows["turned"]["image"].size == rows["turned"]["label"].size


def test_large_parquet_exports_have_several_files(
    finished: ExportRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pfit_ray.results.export.hf.PART_BYTES", 1)
    out = export(finished, tmp_path, "hf")
    files = sorted((out / "data").iterdir())
    assert [file.name for file in files] == [f"train-{number:05d}.parquet" for number in range(4)]
    assert [pd.read_parquet(file)["image_id"].tolist() for file in files] == [[image_id] for image_id in KEPT]


def test_png_folder(finished: ExportRun, tmp_path: Path) -> None:
    out = export(finished, tmp_path, "png")
    assert_maps({path.stem: label_map(path.read_bytes()) for path in (out / "labels").iterdir()}, finished)
    classes = pd.read_csv(out / "classes.csv").set_index("id")
    assert classes["class"].to_dict() == {0: "background", **dict(enumerate(CLASSES, start=1)), 255: "unsure"}
    images = pd.read_csv(out / "images.csv").set_index("image_id")
    assert images.loc["a", "classes"] == "cat;dog;red <fox>"
    assert images.loc["turned", "photograph"] == "turned.png"
    assert images.loc["a", "crf_change"] == 0.25


def test_a_class_that_labelmap_txt_cannot_hold(finished: ExportRun, tmp_path: Path) -> None:
    document = finished.config.model_dump()
    document["data"]["classes"] = ["cat", "dog: small", "fox"]
    with pytest.raises(UserError, match=r"class 'dog: small' has the sign ':', which labelmap\.txt cannot hold"):
        export_run(validate(document), finished.directory, str(tmp_path / "out"), ExportOptions("voc"))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools on numpy 2
def test_pycocotools_reads_polygons_with_their_holes(finished: ExportRun, tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    export_run(finished.config, finished.directory, str(tmp_path / "out"), ExportOptions("coco", polygons=True))
    coco = COCO(str(tmp_path / "out" / "annotations" / "instances_train.json"))
    found = {}
    for image in coco.loadImgs(coco.getImgIds()):
        label = np.zeros((image["height"], image["width"]), np.uint8)
        for annotation in coco.loadAnns(coco.getAnnIds(image["id"])):
            assert isinstance(annotation["segmentation"], list)
            label[coco.annToMask(annotation).astype(bool)] = annotation["category_id"]
        found[image["file_name"].partition(".")[0]] = label
    assert_maps(found, finished, unsure=False)


def test_polygons_are_a_choice_of_coco(finished: ExportRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="polygons need the format coco"):
        export_run(finished.config, finished.directory, str(tmp_path / "out"), ExportOptions("voc", polygons=True))


def test_yolo_polygons_drawn_as_ultralytics_draws(finished: ExportRun, tmp_path: Path) -> None:
    """Its loader scales points to pixels, drops what lies behind the point, and fills by OpenCV."""
    out = export(finished, tmp_path, "yolo")
    document = yaml.safe_load((out / "data.yaml").read_text())
    assert document == {"train": "images/train", "val": "images/train", "names": dict(enumerate(CLASSES))}
    found = {}
    for path in (out / "labels" / "train").iterdir():
        (image,) = (out / document["train"]).glob(f"{path.stem}.*")
        with Image.open(image) as picture:
            label = np.zeros(picture.size[::-1], np.uint8)
        for line in path.read_text().splitlines():
            number, *values = line.split()
            points = np.array(values, np.float32).reshape(-1, 2)
            assert len(points) > 2
            assert points.min() > 0
            assert points.max() < 1
            cv2.fillPoly(label, [(points * label.shape[::-1]).astype(np.int32)], int(number) + 1)
        found[path.stem] = label
    for image_id in KEPT:
        label = finished.labels[image_id]
        np.testing.assert_array_equal(found[image_id], np.where(label == 255, 0, label), err_msg=image_id)


def test_fiftyone_layout(finished: ExportRun, tmp_path: Path) -> None:
    """The layout that FiftyOne documents for ImageSegmentationDirectory: data and labels with equal stems."""
    out = export(finished, tmp_path, "fiftyone")
    assert sorted(path.stem for path in (out / "data").iterdir()) == list(KEPT)
    masks = {path.stem: cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in (out / "labels").iterdir()}
    assert_maps(masks, finished)  # read as FiftyOne reads them, to which a palette would be colours
    told = json.loads((out / "scores.json").read_text())
    assert told["mask_targets"]["1"] == "cat"
    assert list(told["samples"]) == list(KEPT)
    assert told["samples"]["a"]["tags"] == ["train", *CLASSES]
    assert told["samples"]["a"]["crf_change"] == 0.25


def test_fiftyone_reads_its_layout(finished: ExportRun, tmp_path: Path) -> None:
    """By its importer, which needs no database."""
    script = (
        "import pathlib\n"
        "from fiftyone.utils.data.importers import ImageSegmentationDirectoryImporter\n"
        "with ImageSegmentationDirectoryImporter(dataset_dir=folder, include_all_data=True) as images:\n"
        "    for path, _, label in images:\n"
        "        found[pathlib.Path(path).stem] = label.get_mask()\n"
    )
    assert_maps(foreign_maps("fiftyone", script, export(finished, tmp_path, "fiftyone"), tmp_path), finished)


def test_ultralytics_reads_yolo(finished: ExportRun, tmp_path: Path) -> None:
    """Its loader, and its own drawing of polygons; it refuses images of fewer than ten pixels on a side."""
    script = (
        "import os, pathlib, tempfile\n"
        "os.environ['YOLO_CONFIG_DIR'] = tempfile.mkdtemp()\n"
        "from ultralytics.data import YOLODataset\n"
        "from ultralytics.data.utils import check_det_dataset, polygon2mask\n"
        "data = check_det_dataset(folder + '/data.yaml', autodownload=False)\n"
        "assert data['names'] == {0: 'cat', 1: 'dog', 2: 'red <fox>'}\n"
        "images = YOLODataset(img_path=data['train'], data=data, task='segment', augment=False, imgsz=64)\n"
        "for one in images.labels:\n"
        "    height, width = one['shape']\n"
        "    mask = np.zeros((height, width), np.uint8)\n"
        "    for number, points in zip(one['cls'].ravel(), one['segments']):\n"
        "        outline = (points * (width, height)).astype(np.float32).reshape(-1)\n"
        "        mask[polygon2mask((height, width), [outline]) > 0] = number + 1\n"
        "    found[pathlib.Path(one['im_file']).stem] = mask\n"
    )
    found = foreign_maps("ultralytics", script, export(finished, tmp_path, "yolo"), tmp_path)
    assert sorted(found) == ["a", "b"]
    for image_id, mask in found.items():
        label = finished.labels[image_id]
        np.testing.assert_array_equal(mask, np.where(label == 255, 0, label), err_msg=image_id)


@pytest.mark.parametrize("name", FORMATS)
def test_a_table_leads_back_to_the_original_files(finished: ExportRun, tmp_path: Path, name: str) -> None:
    table = pd.read_csv(export(finished, tmp_path, name) / "originals.csv").set_index("image_id")
    assert table["original"].to_dict() == {"a": "a.jpg", "b": "b.png", "c": "c.jpg", "turned": "turned.jpg"}
    assert table.loc["turned", "file"] == "turned.png"
