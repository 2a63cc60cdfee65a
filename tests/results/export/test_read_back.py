"""Exports are sources: the same images, labels and masks come back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.export_run import CLASSES, ExportRun

from pfit_ray import storage
from pfit_ray.config.data import DataConfig, ImageSetConfig
from pfit_ray.data.coco_masks import PREFIX, draw_masks
from pfit_ray.data.images import decode_image, decode_mask
from pfit_ray.data.sources.listing import list_images
from pfit_ray.data.sources.notes import Notes
from pfit_ray.results.export import ExportOptions, export_run

KEPT = ("a", "b", "c", "turned")
SOURCES: dict[str, dict[str, Any]] = {
    "voc": {"source": "voc", "root": "OUT"},
    "coco": {"source": "coco", "root": "OUT", "draw_masks": True},
    "png": {"root": "OUT/images", "labels": "OUT/images.csv", "masks": "OUT/labels"},
}


@pytest.mark.parametrize("name", SOURCES)
def test_the_same_images_labels_and_masks(name: str, finished: ExportRun, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    export_run(finished.config, finished.directory, out, ExportOptions(name))
    fields = {
        key: value.replace("OUT", out) if isinstance(value, str) else value for key, value in SOURCES[name].items()
    }
    split = None if name == "png" else "train"
    notes = Notes()
    items = {
        item.image_id: item
        for item in list_images(DataConfig(classes=CLASSES, **fields), ImageSetConfig(split=split), notes)
    }
    assert sorted(items) == sorted(KEPT)
    assert list(notes) == []
    for image_id, item in items.items():
        label = finished.labels[image_id]
        assert (item.reason, item.keys) == (None, tuple(sorted(set(np.unique(label).tolist()) - {0, 255}))), image_id
        assert decode_image(storage.fetch(item.uri), 10**6).shape[:2] == label.shape
        uri = item.mask_uri or ""
        found = draw_masks(uri, label.shape) if uri.startswith(PREFIX) else decode_mask(storage.fetch(uri), label.shape)
        # COCO has no unsure pixels.
        np.testing.assert_array_equal(found, np.where(label == 255, 0, label) if name == "coco" else label)
