from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from support.coco_set import HEIGHT, WIDTH, box, crowd, packed

from pfit_ray.data.coco_masks import draw_masks, draw_segmentation, pack_masks
from pfit_ray.errors import RowError


def rectangle(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top:bottom, left:right] = True
    return mask


def test_each_form_is_the_same_mask() -> None:
    place = 3, 5, 20, 41
    for form in (box, crowd, packed):
        np.testing.assert_array_equal(draw_segmentation(form(*place), HEIGHT, WIDTH), rectangle(*place))


def test_run_lengths_are_unpacked_as_pycocotools_does() -> None:
    for seed in range(50):
        dice = np.random.default_rng(seed)
        shape = tuple(dice.integers(1, 40, 2).tolist())
        mask = np.asfortranarray(dice.random(shape) < dice.random(), dtype=np.uint8)
        encoded = {"size": list(shape), "counts": coco_mask.encode(mask)["counts"].decode()}
        np.testing.assert_array_equal(draw_segmentation(encoded, *shape), mask.astype(bool))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools on numpy 2
def test_polygons_are_drawn_as_pycocotools_does() -> None:
    ring = (np.random.default_rng(0).random(16) * 60 - 5).tolist()
    drawn = draw_segmentation([ring, [1.0, 1.0, 9.5, 1.0, 9.5, 9.5]], HEIGHT, WIDTH)
    runs = coco_mask.merge(coco_mask.frPyObjects([ring, [1.0, 1.0, 9.5, 1.0, 9.5, 9.5]], HEIGHT, WIDTH))
    np.testing.assert_array_equal(drawn, coco_mask.decode(runs).astype(bool))


def test_overlaps_and_crowds_are_unsure() -> None:
    parts = [(2, box(0, 0, 20, 20)), (1, box(10, 10, 30, 30)), (1, box(25, 25, 35, 35)), (255, crowd(28, 0, 60, 28))]
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[:20, :20] = 2
    expected[10:30, 10:30] = 1
    expected[25:35, 25:35] = 1
    expected[10:20, 10:20] = 255
    expected[:28, 28:60] = 255
    np.testing.assert_array_equal(draw_masks(pack_masks(HEIGHT, WIDTH, parts), (HEIGHT, WIDTH)), expected)
    np.testing.assert_array_equal(draw_masks(pack_masks(3, 2, [])), np.zeros((3, 2), np.uint8))


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [HEIGHT, WIDTH], "counts": [5, 7]},
        {"size": [HEIGHT, WIDTH], "counts": [-1, HEIGHT * WIDTH + 1]},
        {"size": [WIDTH, HEIGHT], "counts": [HEIGHT * WIDTH]},
        {"size": [HEIGHT, WIDTH], "counts": "0000"},
        {"size": [HEIGHT, WIDTH], "counts": "\x7f" * 40},
        {"counts": [1]},
        [[0, 0, 1e9, 0, 1e9, 1e9]],
        [[0, 0, float("nan"), 0, 5, 5]],
        [[0, 0, 1, 1]],
        [["a"] * 6],
        "polygon",
        7,
    ],
)
def test_what_would_crash_or_read_foreign_memory(segmentation: Any) -> None:
    with pytest.raises(RowError) as caught:
        draw_masks(pack_masks(HEIGHT, WIDTH, [(1, segmentation)]))
    assert caught.value.reason == "bad_mask"


def test_another_size_than_the_image() -> None:
    with pytest.raises(RowError, match=r"64 x 48 pixels.* 48 x 64") as caught:
        draw_masks(pack_masks(HEIGHT, WIDTH, []), (WIDTH, HEIGHT))
    assert caught.value.reason == "bad_mask"
    with pytest.raises(RowError, match="100000 x 100000"):
        draw_masks(pack_masks(100_000, 100_000, []))
