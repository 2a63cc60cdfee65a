"""Our own exports are sources: the same images, labels and masks."""

from pathlib import Path

import numpy as np
import pytest
from support.export_run import CLASSES, ExportRun

from pfit_ray.config.data import DataConfig, ImageSetConfig
from pfit_ray.data.image_bytes import fetch_address, fetch_image
from pfit_ray.data.images import decode_image, decode_mask
from pfit_ray.data.sources.listing import list_images
from pfit_ray.errors import UserError
from pfit_ray.results.export import ExportOptions, export_run

KEPT = ("a", "b", "c", "turned")


def test_hf(finished: ExportRun, tmp_path: Path) -> None:
    export_run(finished.config, finished.directory, str(tmp_path / "out"), ExportOptions("hf"))
    data = DataConfig(source="parquet", root=str(tmp_path / "out" / "data"), classes=CLASSES)
    items = list(list_images(data, ImageSetConfig()))
    present = {name: tuple(sorted(set(label.ravel().tolist()) - {0, 255})) for name, label in finished.labels.items()}
    assert [(item.image_id, item.keys) for item in items] == [(name, present[name]) for name in KEPT]
    for item in items:
        label = decode_mask(fetch_address(item.mask_uri or ""))
        assert np.array_equal(label, finished.labels[item.image_id])
        photograph = fetch_image({"uri": item.uri, "row": item.row, "column": item.column})
        assert decode_image(photograph, 10**6).shape[:2] == label.shape
    with pytest.raises(UserError, match=r"data\.classes: .* from 1"):
        list(list_images(data.model_copy(update={"classes": CLASSES[::-1]}), ImageSetConfig()))
