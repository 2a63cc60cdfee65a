import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pfit_ray.ops.cam.augment import augment, random_placement, random_size, shrink_label

MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
IDENTITY = {"flip": False, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


class Draws:
    """A generator that gives prepared integers, and refuses what was not asked for."""

    def __init__(self, *integers: int, coin: float = 0.9) -> None:
        self.integers_left = list(integers)
        self.coin = coin
        self.asked: list[tuple[int, ...]] = []

    def integers(self, *bounds: int, endpoint: bool) -> int:
        assert endpoint
        self.asked.append(bounds)
        return self.integers_left.pop(0)

    def random(self) -> float:
        return self.coin


def grey(values: list[list[int]]) -> NDArray[np.uint8]:
    return np.repeat(np.array(values, np.uint8)[:, :, None], 3, axis=2)


IMAGE = [[0, 51], [102, 255]]
LABEL = np.array([[0, 1], [2, 255]], np.uint8)


def test_small_image_is_placed_and_padded() -> None:
    draws = Draws(2, 1, 2)  # longer side 2 (as it is), 1 row down, 2 columns to the right
    picture, label = augment(grey(IMAGE), LABEL, draws, min_side=1, max_side=9, crop=4, **IDENTITY)
    assert draws.asked == [(1, 9), (2,), (2,)]
    expected = [[0, 0, 0, 0], [0, 0, 0, 0.2], [0, 0, 0.4, 1], [0, 0, 0, 0]]
    np.testing.assert_array_equal(picture, np.float32([expected] * 3))
    assert picture.dtype == np.float32
    assert label.tolist() == [[255] * 4, [255, 255, 0, 1], [255, 255, 2, 255], [255] * 4]
    assert label.dtype == np.uint8


def test_large_image_is_cut() -> None:
    image = grey([[0, 51, 102], [153, 204, 255]])
    draws = Draws(3, 1, 1)
    picture, label = augment(image, None, draws, min_side=3, max_side=3, crop=1, **IDENTITY)
    assert draws.asked == [(3, 3), (1,), (2,)]
    np.testing.assert_allclose(picture, np.full((3, 1, 1), 0.8), rtol=1e-6)
    assert label.tolist() == [[255]]


def test_mirror() -> None:
    draws = Draws(2, 0, 0, coin=0.4)
    picture, label = augment(grey(IMAGE), LABEL, draws, min_side=2, max_side=2, crop=2, **{**IDENTITY, "flip": True})
    np.testing.assert_allclose(picture[0], [[0.2, 0], [1, 0.4]], rtol=1e-6)
    assert label.tolist() == [[1, 0], [255, 2]]


def test_normalisation_leaves_padding_at_zero() -> None:
    draws = Draws(1, 0, 1)
    picture, _ = augment(
        np.array([[[255, 51, 0]]], np.uint8),
        None,
        draws,
        min_side=1,
        max_side=1,
        crop=2,
        flip=False,
        mean=(0.5, 0.1, 0.2),
        std=(0.25, 0.1, 0.4),
    )
    np.testing.assert_allclose(picture[:, 0, 1], [2.0, 1.0, -0.5], rtol=1e-6)
    assert picture[:, :, 0].tolist() == [[0, 0]] * 3


def test_resize_takes_the_longer_side() -> None:
    assert random_size(100, 50, Draws(30), 30, 30) == (30, 15)
    assert random_size(50, 100, Draws(30), 30, 30) == (15, 30)
    assert random_size(1, 1000, Draws(30), 30, 30) == (1, 30)
    assert random_size(1, 1, Draws(30), 30, 30) == (30, 30)


def test_label_is_nearest_and_image_smooth() -> None:
    image = grey([[0, 0, 255, 255]])
    label = np.array([[3, 3, 7, 7]], np.uint8)
    draws = Draws(8, 0, 0)
    picture, labels = augment(image, label, draws, min_side=8, max_side=8, crop=8, **IDENTITY)
    assert labels[0].tolist() == [3, 3, 3, 3, 7, 7, 7, 7]
    assert len(np.unique(picture[0, 0])) > 2


def test_shrink_label_takes_the_middle_pixel() -> None:
    label = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert shrink_label(label, 4).tolist() == [[18, 22], [50, 54]]


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"the label map has \(2, 2\) pixels and the image \(1, 2\)"):
        augment(grey([[1, 2]]), LABEL, np.random.default_rng(0), min_side=2, max_side=2, crop=2, **IDENTITY)


def test_same_state_gives_the_same_example() -> None:
    image = np.random.default_rng(1).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    options = {"min_side": 20, "max_side": 90, "crop": 32, "flip": True, "mean": MEAN, "std": STD}
    draw = [augment(image, image[:, :, 0], np.random.default_rng(seed), **options) for seed in (5, 5, 6)]
    np.testing.assert_array_equal(draw[0][0], draw[1][0])
    np.testing.assert_array_equal(draw[0][1], draw[1][1])
    assert not np.array_equal(draw[0][0], draw[2][0])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 24), st.integers(0, 2**32 - 1))
def test_image_and_label_stay_aligned(height: int, width: int, crop: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 200, (height, width), dtype=np.uint8)
    side = max(height, width)
    image = np.repeat(label[:, :, None], 3, axis=2)
    picture, labels = augment(image, label, rng, min_side=side, max_side=side, crop=crop, **{**IDENTITY, "flip": True})
    inside = labels != 255
    np.testing.assert_array_equal(np.rint(picture[0] * 255)[inside], labels[inside])
    assert (picture[0][~inside] == 0).all()
    assert inside.sum() == min(height, crop) * min(width, crop)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_placement_stays_inside(height: int, width: int, crop: int, seed: int) -> None:
    place = random_placement(height, width, crop, np.random.default_rng(seed))
    assert 0 <= place.source_top <= height - place.height
    assert 0 <= place.source_left <= width - place.width
    assert 0 <= place.target_top <= crop - place.height
    assert 0 <= place.target_left <= crop - place.width
