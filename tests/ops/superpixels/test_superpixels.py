import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.segmentation import quickshift, slic
from support.golden import cases, golden_image, load

from pfit_ray.ops.superpixels.superpixels import quickshift_superpixels, slic_superpixels

HALVES = np.zeros((20, 30, 3), dtype=np.uint8)
HALVES[:, 15:] = 250


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (1, 9), (9, 1), (2, 2), (7, 40)])
@pytest.mark.parametrize("superpixels", [slic_superpixels, quickshift_superpixels])
def test_any_size(superpixels, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    labels = superpixels(image)
    assert labels.shape == shape
    assert labels.dtype == np.int32


def test_slic_labels_start_at_one():
    assert slic_superpixels(HALVES).min() == 1


def test_quickshift_labels_start_at_zero():
    assert quickshift_superpixels(HALVES).min() == 0


@pytest.mark.parametrize(
    ("superpixels", "options"),
    [(slic_superpixels, {"n_segments": 6, "sigma": 0.0}), (quickshift_superpixels, {})],
)
def test_no_superpixel_crosses_a_sharp_edge(superpixels, options):
    labels = superpixels(HALVES, **options)
    assert not np.intersect1d(labels[:, :15], labels[:, 15:]).size


def test_options_reach_the_algorithms():
    assert slic_superpixels(HALVES, n_segments=6).max() < slic_superpixels(HALVES, n_segments=100).max()
    with pytest.raises(ValueError, match="kernel_size"):
        quickshift_superpixels(HALVES, kernel_size=0.5)


@pytest.mark.parametrize("file", cases("01_uss_slic/*.npz", "01_uss_quick/*.npz"))
def test_as_published(file):
    superpixels = slic_superpixels if file.parent.name == "01_uss_slic" else quickshift_superpixels
    bgr = golden_image(file.stem)[..., ::-1]
    np.testing.assert_array_equal(superpixels(bgr), load(file)["superpixels"])


def assert_labels_of_scikit_image(voc_animals: Path, number: int, largest: int) -> None:
    paths = sorted((voc_animals / "JPEGImages").glob("*.jpg"))
    with Image.open(random.Random(0).sample(paths, 20)[number]) as opened:
        rgb = np.asarray(opened.convert("RGB"))[:largest, :largest]
    for image in (rgb, rgb[..., ::-1]):
        expected = slic(image, n_segments=1000, compactness=15, sigma=1, start_label=1)
        np.testing.assert_array_equal(slic_superpixels(image), expected)
        expected = quickshift(image, kernel_size=3, max_dist=6, ratio=0.29)
        np.testing.assert_array_equal(quickshift_superpixels(image), expected)


def test_labels_of_scikit_image_on_a_window_of_an_image(voc_animals: Path) -> None:
    assert_labels_of_scikit_image(voc_animals, 0, largest=150)


@pytest.mark.nightly
@pytest.mark.parametrize("number", range(20))
def test_labels_of_scikit_image_on_images(voc_animals: Path, number: int) -> None:
    assert_labels_of_scikit_image(voc_animals, number, largest=1000)
