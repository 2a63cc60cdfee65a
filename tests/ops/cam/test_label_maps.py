from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.golden import array, cases, golden_image, item, load

from pfit_ray.ops.cam.label_maps import affinity_label, pseudo_label
from pfit_ray.ops.cam.thresholding import threshold_classes
from pfit_ray.ops.crf.crf import LabelCrf, label_crf

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
    label, _ = pseudo_label(golden_image(image_id), walk["rw_up"], walk["keys"][1:], threshold=0.35, crf=crf)
    np.testing.assert_array_equal(label, np.array(Image.open(file)))


NO_CRF = LabelCrf(iterations=0)


def test_sure_unsure_and_background() -> None:
    hr_cam = np.array([[[0.7, 0.5, 0.3, 0.65, 0.6]], [[0.1, 0.1, 0.35, 0.9, 0.4]]], dtype=np.float32)
    label = affinity_label(
        np.zeros((1, 5, 3), np.uint8),
        hr_cam,
        np.array([3, 12]),
        fg_threshold=0.6,
        bg_threshold=0.4,
        crf=NO_CRF,
    )
    assert label.tolist() == [[3, 255, 0, 12, 255]]
    assert label.dtype == np.uint8


def test_values_at_both_thresholds_belong_to_the_background() -> None:
    label = affinity_label(
        np.zeros((1, 2, 3), np.uint8),
        np.array([[[0.4, 0.6]]], np.float32),
        np.array([1]),
        fg_threshold=0.6,
        bg_threshold=0.4,
        crf=NO_CRF,
    )
    assert label.tolist() == [[0, 255]]


def test_affinity_labels_without_classes_are_background_everywhere() -> None:
    label = affinity_label(
        np.zeros((2, 3, 3), np.uint8),
        np.zeros((0, 2, 3), np.float32),
        np.array([], np.int32),
        fg_threshold=0.6,
        bg_threshold=0.4,
        crf=LabelCrf(),
    )
    assert label.tolist() == [[0, 0, 0], [0, 0, 0]]


def test_one_pixel() -> None:
    label = affinity_label(
        np.zeros((1, 1, 3), np.uint8),
        np.ones((1, 1, 1), np.float32),
        np.array([7]),
        fg_threshold=0.6,
        bg_threshold=0.4,
        crf=LabelCrf(),
    )
    assert label.tolist() == [[7]]


def test_the_crf_removes_a_speck() -> None:
    hr_cam = np.zeros((1, 9, 9), np.float32)
    hr_cam[0, 4, 4] = 1.0
    image = np.full((9, 9, 3), 90, np.uint8)
    label = affinity_label(image, hr_cam, np.array([1]), fg_threshold=0.6, bg_threshold=0.4, crf=LabelCrf())
    assert (label == 0).all()


def test_another_image_size_is_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        affinity_label(
            np.zeros((2, 2, 3), np.uint8),
            np.zeros((1, 2, 3), np.float32),
            np.array([1]),
            fg_threshold=0.6,
            bg_threshold=0.4,
            crf=LabelCrf(),
        )


@pytest.mark.parametrize("file", cases("06_affinity_labels/*.npz"))
def test_affinity_label_as_published(file: Path) -> None:
    published, combined = load(file), array(f"05_combined/{file.name}")
    image, keys = golden_image(file.stem), combined["keys"][1:]
    label = affinity_label(image, combined["hr_cam"], keys, fg_threshold=0.6, bg_threshold=0.4, crf=LabelCrf())
    np.testing.assert_array_equal(label, published["label"])
    np.testing.assert_array_equal(label, np.array(Image.open(item(f"06_affinity_labels/{file.stem}.png"))))


@pytest.mark.parametrize("file", cases("06_affinity_labels/*.npz"))
@pytest.mark.parametrize(("name", "threshold"), [("fg", 0.6), ("bg", 0.4)])
def test_each_labelling_as_published(file: Path, name: str, threshold: float) -> None:
    published, combined = load(file), array(f"05_combined/{file.name}")
    winners = threshold_classes(combined["hr_cam"], threshold)
    np.testing.assert_array_equal(winners, published[f"{name}_argmax"])
    refined = label_crf(golden_image(file.stem), winners, len(combined["keys"]), LabelCrf()).argmax(axis=0)
    np.testing.assert_array_equal(combined["keys"][refined], published[f"{name}_conf"])
