import numpy as np
import pytest
import torch

from pfit_ray.ops.regions.uss import segment_unsupervised
from pfit_ray.ops.regions.uss_batch import segment_unsupervised_batch
from pfit_ray.ops.regions.uss_vote import UssOptions

RNG = np.random.default_rng(0)
PHOTOS = [RNG.integers(0, 256, (24, 32, 3), dtype=np.uint8) for _ in range(3)]
PHOTOS[1] = np.repeat(np.repeat(PHOTOS[1][::8, ::8], 8, axis=0), 8, axis=1)  # few colours: soon done
SUPERPIXELS = [
    (np.arange(24)[:, None] // side * 16 + np.arange(32)[None] // side).astype(np.int32) for side in (3, 8, 4)
]
SMALL = {"hidden": 16, "n_channels": 12}


@pytest.mark.parametrize("options", [{"min_labels": 5, "max_iterations": 12}, {"min_labels": 2, "max_iterations": 3}])
def test_each_image_as_alone(options):
    options = UssOptions(**SMALL, **options)
    together = segment_unsupervised_batch(PHOTOS, SUPERPIXELS, options, device="cpu")
    for image, superpixels, regions in zip(PHOTOS, SUPERPIXELS, together, strict=True):
        alone = segment_unsupervised(image, superpixels, options)
        assert regions.labels_per_iteration == alone.labels_per_iteration
        np.testing.assert_array_equal(regions.labels, alone.labels)
        np.testing.assert_array_equal(regions.channel_ids, alone.channel_ids)


def test_images_stop_on_their_own():
    found = segment_unsupervised_batch(
        PHOTOS, SUPERPIXELS, UssOptions(min_labels=8, max_iterations=6, **SMALL), device="cpu"
    )
    assert len({len(regions.labels_per_iteration) for regions in found}) > 1


def test_no_gradients_are_needed_around_it():
    options = UssOptions(min_labels=2, max_iterations=2, **SMALL)
    expected = segment_unsupervised_batch(PHOTOS, SUPERPIXELS, options, device="cpu")
    with torch.no_grad():
        found = segment_unsupervised_batch(PHOTOS, SUPERPIXELS, options, device="cpu")
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one.labels, other.labels)


def test_one_pixel_and_no_image():
    assert segment_unsupervised_batch([], [], device="cpu") == []
    (regions,) = segment_unsupervised_batch([PHOTOS[0][:1, :1]], [np.zeros((1, 1), int)], device="cpu")
    assert regions.labels_per_iteration == (1,)


@pytest.mark.parametrize(
    ("images", "superpixels", "message"),
    [
        (PHOTOS, SUPERPIXELS[1:], "3 images, but superpixels of 2"),
        ([PHOTOS[0], PHOTOS[1][1:]], [SUPERPIXELS[0], SUPERPIXELS[1][1:]], "differ in size"),
        (PHOTOS[:1], [SUPERPIXELS[0][1:]], "differ in size"),
    ],
)
def test_bad_input(images, superpixels, message):
    with pytest.raises(ValueError, match=message):
        segment_unsupervised_batch(images, superpixels, device="cpu")
