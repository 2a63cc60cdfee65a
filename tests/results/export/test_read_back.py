"""Exports are sources: the same images, labels and masks come back."""

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from support.export_run import CLASSES, ExportRun

from pfit_ray.config.data import DataConfig, ImageSetConfig
from pfit_ray.data.image_bytes import fetch_image
from pfit_ray.data.images import decode_image
from pfit_ray.data.sources.listing import list_images
from pfit_ray.data.sources.mask_ids import mask_ids
from pfit_ray.data.sources.notes import Notes
from pfit_ray.results.export import ExportOptions, export_run

KEPT = ("a", "b", "c", "turned")


class Back(NamedTuple):
    """How an export is read: the fields of `DataConfig`, the split, and whether unsure pixels come back."""

    fields: dict[str, Any]
    split: str | None = None
    unsure: bool = True
    notes: int = 0


SOURCES = {
    "voc": Back({"source": "voc", "root": "OUT"}, "train"),
    "coco": Back({"source": "coco", "root": "OUT", "draw_masks": True}, "train", unsure=False),
    "png": Back({"root": "OUT/images", "labels": "OUT/images.csv", "masks": "OUT/labels"}),
    "hf": Back({"source": "parquet", "root": "OUT/data"}),
    "cvat": Back({"source": "cvat", "root": "OUT", "draw_masks": True}, unsure=False),
    # README.md, labels.txt and card.json lie beside the images
    "labelme": Back({"source": "labelme", "root": "OUT", "draw_masks": True}, notes=4),
}


def read_back(back: Back, out: str, classes: tuple[str, ...] = CLASSES) -> tuple[dict[str, Any], DataConfig, Notes]:
    fields = {key: value.replace("OUT", out) if isinstance(value, str) else value for key, value in back.fields.items()}
    data, notes = DataConfig(classes=classes, **fields), Notes()
    return {item.image_id: item for item in list_images(data, ImageSetConfig(split=back.split), notes)}, data, notes


@pytest.mark.parametrize("name", SOURCES)
def test_the_same_images_labels_and_masks(name: str, finished: ExportRun, tmp_path: Path) -> None:
    out, back = str(tmp_path / "out"), SOURCES[name]
    export_run(finished.config, finished.directory, out, ExportOptions(name))
    items, data, notes = read_back(back, out)
    assert sorted(items) == sorted(KEPT)
    assert len(list(notes)) == back.notes, list(notes)
    ids = mask_ids(data)
    for image_id, item in items.items():
        label = finished.labels[image_id]
        assert (item.reason, item.keys) == (None, tuple(sorted(set(np.unique(label).tolist()) - {0, 255}))), image_id
        place = {name: getattr(item, name) for name in ("uri", "offset", "length", "row", "column")}
        assert decode_image(fetch_image(place), 10**6).shape[:2] == label.shape
        found = ids.read(item.mask_uri or "", label.shape)
        np.testing.assert_array_equal(found, label if back.unsure else np.where(label == 255, 0, label))


@pytest.mark.parametrize("name", ["voc", "coco", "cvat", "labelme"])
def test_formats_that_name_their_classes_know_them_in_another_order(
    name: str, finished: ExportRun, tmp_path: Path
) -> None:
    """Of the voc export the numbers in its palette PNGs have the colours that labelmap.txt names."""
    out, back = str(tmp_path / "out"), SOURCES[name]
    export_run(finished.config, finished.directory, out, ExportOptions(name))
    items, data, _ = read_back(back, out, CLASSES[::-1])
    turned = np.array([0, 3, 2, 1, *range(4, 256)], np.uint8)
    for image_id, item in items.items():
        label = turned[finished.labels[image_id]]
        found = mask_ids(data).read(item.mask_uri or "", label.shape)
        np.testing.assert_array_equal(found, label if back.unsure else np.where(label == 255, 0, label))


def test_what_cvat_gives_back_for_a_voc_export_is_ground_truth(finished: ExportRun, tmp_path: Path) -> None:
    """CVAT returns "Segmentation mask 1.1" as RGB PNGs in SegmentationClass, with a labelmap.txt in its own order."""
    from PIL import Image

    out = tmp_path / "out"
    export_run(finished.config, finished.directory, str(out), ExportOptions("voc"))
    for path in (out / "SegmentationClass").iterdir():
        Image.open(path).convert("RGB").save(path)
    lines = (out / "labelmap.txt").read_text().splitlines()
    (out / "labelmap.txt").write_text("\n".join([lines[0], *lines[:0:-1]]) + "\n")
    shutil.rmtree(out / "Annotations")
    items, data, _ = read_back(Back({"root": "OUT/JPEGImages", "masks": "OUT/SegmentationClass"}), str(out))
    for image_id, item in items.items():
        found = mask_ids(data).read(item.mask_uri or "", finished.labels[image_id].shape)
        np.testing.assert_array_equal(found, finished.labels[image_id])
