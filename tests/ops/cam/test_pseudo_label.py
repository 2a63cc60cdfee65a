from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.golden import array, cases, photograph

from pfit_ray.ops.cam.pseudo_label import pseudo_label
from pfit_ray.ops.crf.crf import LabelCrf

MAPS = np.array([[[0.35, 0.36, 0.2, 1.0]], [[0.1, 0.3, 0.9, 1.0]]], dtype=np.float32)


def test_strongest_class_above_the_background() -> None:
    image = np.zeros((1, 4, 3), np.uint8)
    label, raw = pseudo_label(image, MAPS, np.array([4, 9]), threshold=0.35, crf=LabelCrf(iterations=0))
    assert raw.tolist() == label.tolist() == [[0, 4, 9, 4]]
    assert raw.dtype == label.dtype == np.uint8
    assert not np.shares_memory(label, raw)


def test_the_crf_changes_only_the_refined_label() -> None:
    maps = np.zeros((1, 9, 9), np.float32)
    maps[0, 4, 4] = 1.0
    image = np.full((9, 9, 3), 90, np.uint8)
    label, raw = pseudo_label(image, maps, np.array([2]), threshold=0.35, crf=LabelCrf(iterations=1))
    assert raw[4, 4] == 2
    assert label[4, 4] == 0


def test_no_classes_are_background_everywhere() -> None:
    label, raw = pseudo_label(
        np.zeros((1, 2, 3), np.uint8),
        np.zeros((0, 1, 2), np.float32),
        np.array([], np.int32),
        threshold=0.35,
        crf=LabelCrf(),
    )
    assert label.tolist() == raw.tolist() == [[0, 0]]


@pytest.mark.parametrize("file", cases("08_pseudo_labels/*_crf*.png"))
def test_as_published(file: Path) -> None:
    image_id, iterations = file.stem.rsplit("_crf", 1)
    walk = array(f"07_random_walk/{image_id}.npz")
    crf = LabelCrf(iterations=int(iterations))
    label, _ = pseudo_label(photograph(image_id), walk["rw_up"], walk["keys"][1:], threshold=0.35, crf=crf)
    np.testing.assert_array_equal(label, np.array(Image.open(file)))
