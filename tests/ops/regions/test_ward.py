import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import ward as oracle
from scipy.sparse import coo_matrix
from skimage.data import chelsea
from sklearn.cluster import ward_tree

from pfit_ray.ops.regions.region_maps import number_regions
from pfit_ray.ops.regions.ward import cut_tree, hierarchy, merge_superpixels
from pfit_ray.ops.superpixels.superpixels import slic_superpixels


def test_the_two_neighbours_that_differ_least_become_one() -> None:
    superpixels = np.array([[0, 1, 2, 3]])
    features = np.array([[0.0], [1.0], [5.0], [5.5]])
    merges = merge_superpixels(superpixels, features)
    assert merges.tolist() == [[2, 3], [0, 1], [4, 5]]
    assert cut_tree(merges, 4, 3).tolist() == [0, 1, 2, 2]
    assert cut_tree(merges, 4, 2).tolist() == [0, 0, 1, 1]
    assert cut_tree(merges, 4, 1).tolist() == [0, 0, 0, 0]


def test_superpixels_that_do_not_touch_stay_apart_however_alike_they_are() -> None:
    superpixels = np.array([[0, 1, 2]])
    features = np.array([[0.0], [9.0], [0.0]])
    assert merge_superpixels(superpixels, features).tolist() == [[0, 1], [2, 3]]


def test_equal_differences_are_merged_from_the_smallest_nodes_on() -> None:
    superpixels = np.array([[0, 1], [2, 3]])
    assert merge_superpixels(superpixels, np.zeros((4, 1))).tolist() == [[0, 1], [2, 3], [4, 5]]


@given(st.data())
def test_random_maps_give_the_tree_of_the_slow_form(data: st.DataObject) -> None:
    height, width, top = (data.draw(st.integers(1, largest)) for largest in (5, 6, 7))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    superpixels = number_regions(rng.integers(0, top, (height, width)))
    features = rng.normal(size=(int(superpixels.max()) + 1, 3))
    assert merge_superpixels(superpixels, features).tolist() == [
        list(pair) for pair in oracle.merge_superpixels(superpixels, features)
    ]


def test_an_image_gives_the_tree_of_scikit_learn() -> None:
    superpixels = number_regions(slic_superpixels(chelsea()[::2, ::2], n_segments=400))
    count = int(superpixels.max()) + 1
    features = np.random.default_rng(0).normal(size=(count, 20))
    rows, columns = np.array(sorted(oracle.neighbours(superpixels))).T
    graph = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(count, count)).tocsr()
    expected = ward_tree(features, connectivity=graph + graph.T)[0]
    assert np.array_equal(merge_superpixels(superpixels, features), np.sort(expected, axis=1))


def test_cuts_are_nested_and_have_as_many_regions_as_asked() -> None:
    rng = np.random.default_rng(1)
    superpixels = np.repeat(np.repeat(np.arange(30).reshape(5, 6), 2, axis=0), 2, axis=1)
    coarse, fine, all_of_them = hierarchy(superpixels, rng.normal(size=(30, 4)), (4, 9, 100))
    assert (coarse.max() + 1, fine.max() + 1) == (4, 9)
    assert len(np.unique(coarse * 100 + fine)) == 9
    assert np.array_equal(all_of_them, superpixels)


def test_one_superpixel_and_no_pixel_have_a_tree_without_steps() -> None:
    assert merge_superpixels(np.zeros((1, 1), dtype=np.uint8), np.ones((1, 2))).shape == (0, 2)
    assert merge_superpixels(np.zeros((0, 4), dtype=np.uint16), np.ones((0, 2))).shape == (0, 2)
    assert hierarchy(np.zeros((2, 3), dtype=np.uint8), np.ones((1, 2)), (8,))[0].tolist() == [[0] * 3] * 2


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="2 superpixels and 3 rows"):
        merge_superpixels(np.array([[0, 1]]), np.zeros((3, 1)))
    with pytest.raises(ValueError, match="regions is 0"):
        cut_tree(np.zeros((0, 2), dtype=np.int64), 1, 0)
