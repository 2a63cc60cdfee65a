import numpy as np
import pytest
from oracles.uss_network import slow_gradients, slow_votes
from support.golden import cases, golden_image, is_large, load

from pfit_ray.ops.regions.uss import initial_layers, segment_unsupervised
from pfit_ray.ops.regions.uss_fused import FusedNetwork, each_block, first_weights, segment_unsupervised_fused
from pfit_ray.ops.regions.uss_vote import UssOptions, majority_vote

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8)
BLOCKS = (np.arange(12)[:, None] // 4 * 4 + np.arange(16)[None] // 4 + 1).astype(np.int32)


@pytest.mark.parametrize("shape", [(5, 6), (1, 9), (9, 1), (33, 4), (3, 300), (2, 513)])
def test_values_and_gradients_of_torch(shape):
    rng = np.random.default_rng(shape)
    image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    voted = rng.integers(0, 8, shape)
    options = UssOptions(hidden=16, n_channels=8)
    network = FusedNetwork(image, first_weights(options))
    with each_block(network.blocks, 1) as each:
        labels, gradients = network.labels(each), network.gradients(each, voted)
    values, expected = slow_gradients(image, initial_layers(options), voted)
    np.testing.assert_array_equal(labels, values.argmax(axis=2))
    for ours, slow in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(ours.reshape(slow.shape), slow, atol=2e-5 * np.abs(slow).max())


def test_a_step_has_momentum():
    network = FusedNetwork(PHOTO, first_weights(UssOptions(hidden=8, n_channels=4)))
    voted = RNG.integers(0, 4, PHOTO.shape[:2])
    first = [weight.copy() for weight in network.weights]
    with each_block(network.blocks, 1) as each:
        network.labels(each)
        one = network.gradients(each, voted)[:4]
        network.learn(each, voted, 0.05, 0.9)
        network.labels(each)
        two = network.gradients(each, voted)[:4]
        network.learn(each, voted, 0.05, 0.9)
    for weight, before, a, b in zip(network.weights, first, one, two, strict=True):
        expected = before - 0.05 * (1.9 * a + b).reshape(before.shape)
        np.testing.assert_allclose(weight, expected, rtol=1e-5, atol=1e-6)


def test_the_same_steps_as_with_torch():
    options = UssOptions(min_labels=2, max_iterations=3)
    ours = segment_unsupervised_fused(PHOTO, BLOCKS, options)
    theirs = segment_unsupervised(PHOTO, BLOCKS, options)
    assert ours.labels_per_iteration == theirs.labels_per_iteration
    np.testing.assert_array_equal(ours.labels, theirs.labels)
    np.testing.assert_array_equal(ours.channel_ids, theirs.channel_ids)


def test_threads_do_not_matter():
    image = RNG.integers(0, 256, (50, 300, 3), dtype=np.uint8)
    superpixels = np.arange(50)[:, None] // 5 * 100 + np.arange(300)[None] // 5
    options = UssOptions(min_labels=2, max_iterations=4)
    one = segment_unsupervised_fused(image, superpixels, options)
    three = segment_unsupervised_fused(image, superpixels, options, threads=3)
    np.testing.assert_array_equal(one.labels, three.labels)
    assert one.labels_per_iteration == three.labels_per_iteration


def test_the_image_stays_as_it_is():
    frozen = np.ascontiguousarray(PHOTO[..., ::-1])[..., ::-1]
    frozen.flags.writeable = False
    options = UssOptions(min_labels=2, max_iterations=2)
    regions = segment_unsupervised_fused(frozen, BLOCKS, options)
    again = segment_unsupervised_fused(PHOTO, BLOCKS, options)
    np.testing.assert_array_equal(regions.labels, again.labels)
    np.testing.assert_array_equal(regions.labels, majority_vote(regions.labels, BLOCKS))


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (3, 1), (1, 9)])
def test_small_images(shape):
    image = np.full((*shape, 3), 200, dtype=np.uint8)
    regions = segment_unsupervised_fused(image, np.ones(shape, dtype=np.int32))
    np.testing.assert_array_equal(regions.labels, np.zeros(shape))
    assert regions.labels_per_iteration == (1,)


@pytest.mark.parametrize("options", [{"n_channels": 30}, {"hidden": 6}])
def test_channels_come_in_fours(options):
    with pytest.raises(ValueError, match="multiples of 4"):
        segment_unsupervised_fused(PHOTO, BLOCKS, UssOptions(**options))


def test_superpixels_of_another_size():
    with pytest.raises(ValueError, match="differ in size"):
        segment_unsupervised_fused(PHOTO, BLOCKS[1:])


@pytest.mark.parametrize("file", cases("01_uss_slic/*.npz", "01_uss_quick/*.npz", slow=is_large))
def test_first_iterations_as_published(file):
    """Later ones follow rounding: torch's own do so from one thread to two."""
    published = load(file)
    bgr = golden_image(file.stem)[..., ::-1]
    regions = segment_unsupervised_fused(bgr, published["superpixels"], UssOptions(max_iterations=2))
    assert regions.labels_per_iteration == tuple(published["nlab_per_iter"][:2])


@pytest.mark.parametrize("file", cases("01_uss_slic/s2007_000999.npz", "01_uss_quick/s2007_000999.npz"))
def test_votes_of_double_precision(file):
    """All but a few superpixels, about which a rounded value decides."""
    superpixels = load(file)["superpixels"]
    bgr = golden_image(file.stem)[..., ::-1].copy()
    network = FusedNetwork(bgr, first_weights())
    with each_block(network.blocks, 1) as each:
        for voted in slow_votes(bgr, superpixels, initial_layers(), 3):
            ours = majority_vote(network.labels(each), superpixels)
            assert (ours == voted).mean() >= 0.99
            network.learn(each, ours, 0.05, 0.9)
