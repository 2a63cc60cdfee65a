import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.segmentation import quickshift as library_quickshift

from pfit_ray.ops.superpixels.quickshift import quickshift


def expected(features, **options):
    seed = options.pop("seed")
    return library_quickshift(features, convert2lab=False, ratio=1.0, rng=seed, **options)


@st.composite
def feature_maps(draw):
    shape = draw(st.tuples(st.integers(1, 24), st.integers(1, 24)))
    generator = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    levels = draw(st.sampled_from([1, 2, 5, 1000]))
    features = generator.integers(0, levels, (*shape, 3)) * (draw(st.sampled_from([0.0, 0.5, 8.0, 120.0])) / levels)
    if draw(st.booleans()):
        features[..., 1:] = features[..., :1]  # grey
    return features


@settings(max_examples=150)
@given(
    feature_maps(),
    st.sampled_from([1.0, 1.4, 3.0, 5.5]),
    st.sampled_from([0.5, 1.0, 2.5, 6.0, 40.0, 1e6]),
    st.integers(0, 99),
)
def test_labels_of_scikit_image(features, kernel_size, max_dist, seed):
    options = {"kernel_size": kernel_size, "max_dist": max_dist, "seed": seed}
    np.testing.assert_array_equal(quickshift(features, **options), expected(features, **options))


@pytest.mark.parametrize("shape", [(1, 1), (1, 60), (60, 1), (2, 2), (3, 50)])
def test_thin_images(shape):
    features = np.random.default_rng(0).random((*shape, 3)) * 10
    options = {"kernel_size": 3.0, "max_dist": 6.0, "seed": 42}
    labels = quickshift(features, **options)
    np.testing.assert_array_equal(labels, expected(features, **options))
    assert labels.dtype == np.int32


def test_noise_alone_decides_in_flat_images():
    flat = np.zeros((70, 90, 3))
    first, second = (quickshift(flat, kernel_size=3.0, max_dist=6.0, seed=seed) for seed in (1, 2))
    np.testing.assert_array_equal(first, expected(flat, kernel_size=3.0, max_dist=6.0, seed=1))
    assert (first != second).any()


def test_short_links_leave_every_pixel_alone():
    labels = quickshift(np.zeros((3, 4, 3)), kernel_size=1.0, max_dist=0.5, seed=0)
    np.testing.assert_array_equal(labels, np.arange(12).reshape(3, 4))


def test_wrong_arguments():
    with pytest.raises(ValueError, match="kernel_size must be at least 1"):
        quickshift(np.zeros((2, 2, 3)), kernel_size=0.5, max_dist=6.0, seed=0)
    with pytest.raises(ValueError, match=r"features must be \(H, W, 3\)"):
        quickshift(np.zeros((2, 2)), kernel_size=3.0, max_dist=6.0, seed=0)
