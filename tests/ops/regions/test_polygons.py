import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco_mask

from pfit_ray.ops.regions.polygons import polygons


def test_a_ring_is_one_polygon_with_a_cut() -> None:
    mask = np.ones((3, 3), bool)
    mask[1, 1] = False
    (ring,) = polygons(mask)
    assert ring.corners.tolist() == [
        [0, 0], [1, 0], [1, 2], [2, 2], [2, 1], [1, 1], [1, 0], [3, 0], [3, 3], [0, 3],
    ]  # fmt: skip


def test_regions_that_touch_at_a_corner_are_two() -> None:
    found = polygons(np.eye(2, dtype=bool))
    assert [one.corners.tolist() for one in found] == [
        [[0, 0], [1, 0], [1, 1], [0, 1]],
        [[1, 1], [2, 1], [2, 2], [1, 2]],
    ]
    assert [one.centres.tolist() for one in found] == [[[0, 0]], [[1, 1]]]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools on numpy 2
@given(arrays.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)), fill=st.booleans()))
def test_both_ways_of_filling_give_the_mask(mask: np.ndarray) -> None:
    found = polygons(mask)
    assert len(found) == cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[0] - 1
    drawn = np.zeros(mask.shape, np.uint8)
    for one in found:
        cv2.fillPoly(drawn, [one.centres], 1)
    np.testing.assert_array_equal(drawn > 0, mask)
    if found:
        parts = [one.corners.ravel().astype(float).tolist() for one in found]
        whole = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(parts, *mask.shape)))
        np.testing.assert_array_equal(whole > 0, mask)
