import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from oracles.perimeter import slow_perimeter_map
from PIL import Image, ImageDraw

from pfit_ray.ops.regions.region_maps import Outline, number_regions, outlines, perimeter_map


def test_marks_the_left_and_upper_side_of_borders():
    labels = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 2, 2]], dtype=np.uint8)
    expected = np.array([[0, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], dtype=bool)
    np.testing.assert_array_equal(perimeter_map(labels), expected)


def test_one_region_has_no_perimeter():
    assert not perimeter_map(np.ones((3, 4), dtype=np.uint8)).any()


@given(st.integers(0, 10**6), st.integers(1, 7), st.integers(1, 7))
def test_equals_the_slow_one(seed, height, width):
    labels = np.random.default_rng(seed).integers(0, 3, (height, width), dtype=np.uint8)
    np.testing.assert_array_equal(perimeter_map(labels), slow_perimeter_map(labels))


def test_labels_keep_their_order_and_lose_their_gaps():
    numbered = number_regions(np.array([[7, 3], [3, 900]]))
    assert numbered.dtype == np.uint8
    assert numbered.tolist() == [[1, 0], [0, 2]]


def test_labels_far_apart():
    assert number_regions(np.array([[2**40, 5]])).tolist() == [[1, 0]]


def test_more_than_a_byte_holds():
    labels = np.arange(257).reshape(1, -1) * 3
    numbered = number_regions(labels)
    assert numbered.dtype == np.uint16
    np.testing.assert_array_equal(numbered, labels // 3)


def test_too_many_and_negative_ones():
    with pytest.raises(ValueError, match="has 65537 regions, and at most 65536"):
        number_regions(np.arange(65_537).reshape(1, -1))
    with pytest.raises(ValueError, match="the label -1 is negative"):
        number_regions(np.array([[0, -1]]))


@given(st.lists(st.integers(0, 10**9) | st.integers(0, 5), min_size=1, max_size=30))
def test_equals_the_rank(labels):
    ranks = {label: rank for rank, label in enumerate(sorted(set(labels)))}
    assert number_regions(np.array([labels])).tolist() == [[ranks[label] for label in labels]]


def painted(found: list[Outline], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Fill each polygon and its border, one over the other."""
    result = np.zeros(shape, np.uint8)
    for outline in found:
        points = [(int(x), int(y)) for x, y in outline.points]
        mask = Image.new("L", shape[::-1])
        ImageDraw.Draw(mask).polygon(points + points[-1:] * (3 - len(points)), fill=1, outline=1)
        result[np.asarray(mask) > 0] = outline.label
    return result


def test_a_ring_is_a_disc_and_a_hole() -> None:
    label = np.array([[0, 0, 0, 0, 0], [0, 2, 2, 2, 0], [0, 2, 0, 2, 0], [0, 2, 2, 2, 0]], np.uint8)
    disc, hole = outlines(label)
    assert (disc.label, sorted(map(tuple, disc.points.tolist()))) == (2, [(1, 1), (1, 3), (3, 1), (3, 3)])
    assert (hole.label, hole.points.tolist()) == (0, [[2, 2]])


def test_nothing_but_background() -> None:
    assert outlines(np.zeros((3, 4), np.uint8)) == []


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.sampled_from([0, 1, 2, 255]))
)
def test_painting_gives_the_label_map_again(label: NDArray[np.uint8]) -> None:
    for one in (label, np.kron(label, np.ones((2, 3), np.uint8))):
        np.testing.assert_array_equal(painted(outlines(one), one.shape), one)
