import io

import numpy as np
import pytest
from PIL import Image

from pfit_ray.data.images import decode_grey, decode_mask
from pfit_ray.tasks.encode import (
    EncodeStage,
    array_bytes,
    array_from_bytes,
    compressed_array,
    decompressed_array,
)

LABEL = np.array([[0, 1, 255], [2, 2, 0]], dtype=np.uint8)


def seeds_row(n_classes: int) -> dict:
    rng = np.random.default_rng(0)
    cam = rng.random((n_classes, 1, 1), dtype=np.float32)
    masks = rng.random((n_classes, 2, 3)) > 0.5
    return {
        "image_id": "a",
        "uri": "photos/a.jpg",
        "mask_uri": None,
        "reason": None,
        "status": "ok",
        "stage": None,
        "height": 2,
        "width": 3,
        "encoded": b"jpeg",
        "image": np.zeros((2, 3, 3), dtype=np.uint8),
        "keys": list(range(1, n_classes + 1)),
        "key_scores": [0.5] * n_classes,
        "labels_predicted": True,
        "label_scores": [0.25] * 20,
        "cam": cam,
        "hr_cam": np.zeros((n_classes, 2, 3), dtype=np.float32),
        "combined_cam": 2 * cam,
        "regions_slic": np.array([[0, 31, 5], [0, 0, 0]], dtype=np.uint8),
        "regions_quickshift": np.zeros((2, 3), dtype=np.uint8),
        "fit_mask_slic": masks,
        "fit_mask_quickshift": ~masks,
        "mask_agreement": 0.25,
        "cam_margin": 0.5,
        "foreground_share": 0.5,
        "affinity_label": LABEL,
    }


@pytest.mark.parametrize("n_classes", [0, 1, 3])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_what_is_stored_can_be_read_back(n_classes: int, dtype: str) -> None:
    row, before = seeds_row(n_classes), seeds_row(n_classes)
    EncodeStage("seeds", dtype).process(row)
    np.testing.assert_array_equal(decode_mask(row["label"]), LABEL, strict=True)
    cam = array_from_bytes(row["cam"])
    np.testing.assert_array_equal(cam, before["cam"].astype(dtype), strict=True)
    regions = decode_grey(row["regions_slic"])
    np.testing.assert_array_equal(regions, before["regions_slic"], strict=True)
    masks = decode_grey(row["fit_mask_slic"]).reshape(-1, 2, 3)
    np.testing.assert_array_equal(masks, before["fit_mask_slic"])
    assert masks.shape == (n_classes, 2, 3)
    assert row["keys"] == before["keys"]
    assert (row["label_ids"], row["label_pixels"]) == ([0, 1, 2, 255], [2, 1, 2, 1])
    assert row["mask_agreement"] == 0.25


def test_masks_of_all_classes_lie_below_each_other_in_one_picture() -> None:
    row = seeds_row(2)
    masks = row["fit_mask_slic"]
    EncodeStage("seeds", "float16").process(row)
    with Image.open(io.BytesIO(row["fit_mask_slic"])) as picture:
        assert (picture.mode, picture.size) == ("1", (3, 4))
        np.testing.assert_array_equal(np.array(picture), np.concatenate([masks[0], masks[1]]))


def test_everything_else_is_let_go() -> None:
    row = seeds_row(1)
    EncodeStage("seeds", "float16").process(row)
    assert set(row) == {
        "image_id", "uri", "height", "width", "status", "keys", "key_scores", "labels_predicted",
            "label_scores", "cam",
        "combined_cam", "regions_slic", "regions_quickshift", "fit_mask_slic", "fit_mask_quickshift",
        "mask_agreement", "cam_margin", "foreground_share", "label_ids", "label_pixels", "label",
    }  # fmt: skip


def test_label_column_of_each_pass() -> None:
    base = {"image_id": "a", "uri": "u", "height": 2, "width": 3, "status": "ok", "keys": [1]}
    base |= {"crf_change": 0.0, "foreground_share": 0.0}
    labels = base | {"walk_margin": 0.0, "edge": np.full((1, 1), 0.3), "walk": np.ones((1, 1, 1))}
    labels["pseudo_label"] = LABEL
    EncodeStage("labels", "float32").process(labels)
    np.testing.assert_array_equal(array_from_bytes(labels["edge"]), np.float32([[0.3]]), strict=True)
    predict = base | {"margin": 1.0, "prediction": LABEL}
    EncodeStage("predict", "float16").process(predict)
    assert predict["label"] == labels["label"]


def test_arrays_hold_no_python_objects() -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        array_bytes(np.array([None]))


def test_a_compressed_array_comes_back_as_it_was() -> None:
    array = np.full((3, 200, 100), 1e-5, dtype=np.float32)
    array[1, 50:60] = np.random.default_rng(0).random((10, 100), dtype=np.float32)
    data = compressed_array(array)
    assert len(data) < array.nbytes / 20
    found = decompressed_array(data)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, array)
    assert decompressed_array(compressed_array(np.zeros((0, 5)))).shape == (0, 5)
