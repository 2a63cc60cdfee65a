import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfit_ray.ops.superpixels.numbering import number_regions


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
