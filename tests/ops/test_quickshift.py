import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.segmentation import quickshift as scikit_image_quickshift

from pfit_ray.ops.quickshift import quickshift

OPTIONS = {"kernel_size": 3.0, "max_dist": 6.0, "ratio": 0.29}


def assert_equal_to_scikit_image(image, seed=42, **options):
    ours = quickshift(image, seed=seed, **options)
    assert ours.dtype == np.int32
    np.testing.assert_array_equal(ours, scikit_image_quickshift(image, rng=seed, **options))


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    levels=st.sampled_from([1, 2, 4, 256]),
    seed=st.integers(0, 2**16),
    kernel_size=st.sampled_from([1.0, 1.5, 3.0]),
    max_dist=st.sampled_from([0.5, 1.0, 2.3, 6.0, 100.0]),
    ratio=st.sampled_from([0.0, 0.29, 1.0]),
)
def test_small_images(height, width, levels, seed, kernel_size, max_dist, ratio):
    image = np.random.default_rng(seed).integers(0, levels, (height, width, 3)) * (255 // max(levels - 1, 1))
    assert_equal_to_scikit_image(
        image.astype(np.uint8), seed=seed, kernel_size=kernel_size, max_dist=max_dist, ratio=ratio
    )


def test_two_halves():
    image = np.zeros((4, 6, 3), np.uint8)
    image[:, 3:] = 255
    labels = quickshift(image, seed=0, kernel_size=3.0, max_dist=6.0, ratio=0.5)
    np.testing.assert_array_equal(np.unique(labels[:, :3]), [0])
    np.testing.assert_array_equal(np.unique(labels[:, 3:]), [1])


def test_a_window_that_is_no_array_in_memory_order():
    image = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)
    assert_equal_to_scikit_image(image[::2, ::-1, ::-1], **OPTIONS)


def test_kernel_size_is_checked():
    with pytest.raises(ValueError, match=r"kernel_size is 0\.5, must be at least 1"):
        quickshift(np.zeros((2, 2, 3), np.uint8), seed=0, kernel_size=0.5, max_dist=6.0, ratio=1.0)


@pytest.mark.slow
def test_photographs(voc_animals: Path):
    files = sorted(voc_animals.glob("JPEGImages/*.jpg"))
    for number, file in enumerate(random.Random(0).sample(files, 20)):
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB"))
        assert_equal_to_scikit_image(pixels[..., ::-1] if number % 2 else pixels, **OPTIONS)
