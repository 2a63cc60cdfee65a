import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from oracles.reference_fit import pillow_fit_masks, pillow_flood_fill
from support.golden import array, cases, load, member_cases

from pfit_ray.ops.cam.reference_fit import TOLERANCE, reference_fit_masks
from pfit_ray.ops.cam.reference_fit import flood_fill as fill_in_place

SLIC = {"cam_threshold": 0.05, "edge_threshold": 250, "clip_to_cam": True}
QUICKSHIFT = {"cam_threshold": 0.0, "edge_threshold": 200, "clip_to_cam": False}


def grey(rows):
    """A picture (H, W, 3) whose first channel holds the rows."""
    picture = np.zeros((*np.shape(rows), 3), dtype=np.uint8)
    picture[..., 0] = rows
    return picture


def flood_fill(picture, row, column):
    filled = np.array(picture, order="C")
    fill_in_place(filled, row, column, TOLERANCE, np.empty(filled.size // 3, dtype=np.int64))
    return filled


def test_a_fill_compares_with_the_colour_of_its_seed():
    filled = flood_fill(grey([[50, 58, 61, 50]]), 0, 0)
    np.testing.assert_array_equal(filled[..., 0], [[0, 0, 61, 50]])


def test_a_nearly_black_seed_fills_nothing():
    picture = grey([[10, 10, 11]])
    np.testing.assert_array_equal(flood_fill(picture, 0, 0), picture)
    np.testing.assert_array_equal(flood_fill(picture, 0, 2)[..., 0], [[0, 0, 0]])


def test_last_row_and_column_are_never_seeds():
    picture = grey([[255, 90, 150], [90, 90, 150], [150, 150, 150]])
    nothing = np.zeros((1, 3, 3), dtype=np.float32)
    masks = reference_fit_masks(picture, np.zeros((3, 3), np.uint8), nothing, **QUICKSHIFT)
    np.testing.assert_array_equal(masks[0], np.array([[0, 0, 1], [0, 0, 1], [1, 1, 1]], dtype=bool))


def test_edges_outside_the_cam_stay_unless_clipped():
    picture = grey([[255, 255], [255, 255]])
    edges = np.array([[230, 0], [255, 200]], dtype=np.uint8)
    cam = np.array([[[0, 0], [0, 0.5]]], dtype=np.float32)
    masks = reference_fit_masks(picture, edges, cam, **QUICKSHIFT)
    np.testing.assert_array_equal(masks, [[[True, False], [True, False]]])
    assert not reference_fit_masks(picture, edges, cam, **SLIC).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1)])
def test_without_seeds_everything_survives(shape):
    picture = np.full((*shape, 3), 80, dtype=np.uint8)
    masks = reference_fit_masks(picture, np.zeros(shape, np.uint8), np.zeros((1, *shape)), **QUICKSHIFT)
    assert masks.all()


def test_a_black_picture_and_no_class():
    black = np.zeros((2, 2, 3), dtype=np.uint8)
    edges = np.zeros((2, 2), dtype=np.uint8)
    assert not reference_fit_masks(black, edges, np.ones((1, 2, 2)), **SLIC).any()
    assert reference_fit_masks(black, edges, np.ones((0, 2, 2)), **SLIC).shape == (0, 2, 2)


def test_sizes_must_agree():
    with pytest.raises(ValueError, match="differ in height or width"):
        reference_fit_masks(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 3), np.uint8), np.zeros((1, 2, 2)), **SLIC)


@given(
    st.integers(0, 10**6),
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from([4, 20, 90, 256]),
    st.sampled_from([0.0, 0.5]),
)
@example(seed=0, height=1, width=12, n_greys=20, dark=0.5)
@example(seed=0, height=12, width=1, n_greys=20, dark=0.5)
@example(seed=0, height=2, width=12, n_greys=20, dark=0.5)
@example(seed=0, height=12, width=2, n_greys=20, dark=0.5)
@example(seed=0, height=1, width=1, n_greys=4, dark=0.0)
def test_equals_pillow(seed, height, width, n_greys, dark):
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, n_greys, (height, width, 3), dtype=np.uint8)
    nearly_black = rng.random((height, width)) < dark
    picture[nearly_black] = rng.integers(0, 7, (nearly_black.sum(), 3))
    if dark:
        picture[rng.integers(height), rng.integers(width), 0] = 255  # so that nothing is stretched
    edges = rng.integers(180, 256, (height, width), dtype=np.uint8)
    cam = rng.choice([0.0, 0.03, 0.5], (2, height, width)).astype(np.float32)
    row, column = rng.integers(height), rng.integers(width)
    np.testing.assert_array_equal(flood_fill(picture, row, column), pillow_flood_fill(picture, row, column))
    for rules in (SLIC, QUICKSHIFT):
        np.testing.assert_array_equal(
            reference_fit_masks(picture, edges, cam, **rules), pillow_fit_masks(picture, edges, cam, **rules)
        )


@pytest.mark.parametrize(("file", "unit"), member_cases("04_floodfill_unit/*.npz", "in_"))
def test_flood_fill_as_published(file, unit):
    units = load(file)
    picture = units[f"in_{unit}"]
    for (x, y), expected in zip(units[f"seeds_xy_{unit}"], units[f"after_{unit}"], strict=True):
        picture = flood_fill(picture, y, x)
        np.testing.assert_array_equal(picture, expected)


@pytest.mark.parametrize("file", cases("04_perimeterfit_slic/*.npz", "04_perimeterfit_quick/*.npz"))
def test_as_published(file):
    source = file.parent.name.removeprefix("04_perimeterfit_")
    picture = array(f"01_uss_{source}/{file.stem}_decoded_rgb.npy")
    edges = array(f"02_edges_{source}/{file.name}")["decoded_jpeg"]
    hr_cam = array(f"03_cam_synth/{file.name}")["hr_cam"]
    with_background = np.concatenate([np.zeros_like(hr_cam[:1]), hr_cam])
    masks = reference_fit_masks(picture, edges, with_background, **(SLIC if source == "slic" else QUICKSHIFT))
    np.testing.assert_array_equal(masks, load(file)["mask"] > 0)
