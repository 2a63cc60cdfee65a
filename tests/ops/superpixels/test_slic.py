import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.segmentation import slic as library_slic

from pfit_ray.ops.superpixels.slic import slic
from pfit_ray.ops.superpixels.superpixels import slic_superpixels


@st.composite
def images(draw):
    shape = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    generator = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    levels = draw(st.sampled_from([1, 2, 6, 256]))
    image = (generator.integers(0, levels, (*shape, 3)) * (255 // max(levels - 1, 1))).astype(np.uint8)
    if draw(st.booleans()):
        image[..., 1:] = image[..., :1]  # grey
    return image


@settings(max_examples=150)
@given(
    images(),
    st.sampled_from([1, 2, 7, 30, 200, 5000]),
    st.sampled_from([0.1, 1.0, 15.0, 300.0]),
    st.sampled_from([0.0, 0.7, 1.0]),
)
def test_labels_of_scikit_image(image, n_segments, compactness, sigma):
    options = {"n_segments": n_segments, "compactness": compactness, "sigma": sigma}
    np.testing.assert_array_equal(slic_superpixels(image, **options), library_slic(image, start_label=1, **options))


def test_flat_features_keep_the_grid():
    halves = [5, 3]  # the centres start at 2 and 6; of two that are as near, the first wins
    expected = np.repeat(np.repeat([[1, 2], [3, 4]], halves, axis=0), halves, axis=1)
    labels = slic(np.zeros((8, 8, 3)), n_segments=4)
    np.testing.assert_array_equal(labels, expected)
    assert labels.dtype == np.int32


def test_wrong_features():
    with pytest.raises(ValueError, match=r"features must be \(H, W, 3\)"):
        slic(np.zeros((8, 8)), n_segments=4)
