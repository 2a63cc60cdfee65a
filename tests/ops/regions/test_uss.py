import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles.uss import published_segmentation, slow_majority_vote
from support.golden import cases, golden_image, is_large, load

from pfit_ray.ops.regions.uss import initial_layers, segment_unsupervised
from pfit_ray.ops.regions.uss_vote import UssOptions, majority_vote

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8)
BLOCKS = (np.arange(12)[:, None] // 4 * 4 + np.arange(16)[None] // 4 + 1).astype(np.int32)


def test_majority_vote():
    superpixels = np.array([[1, 1, 1, 5], [5, 5, 5, 5]])
    labels = np.array([[2, 2, 0, 7], [7, 3, 3, 3]])
    np.testing.assert_array_equal(majority_vote(labels, superpixels), [[2, 2, 2, 3], [3, 3, 3, 3]])


def test_majority_vote_gives_a_tie_to_the_smallest_label():
    np.testing.assert_array_equal(majority_vote(np.array([[9, 4, 9, 4]]), np.zeros((1, 4), int)), [[4] * 4])


def test_majority_vote_allows_huge_ids():
    superpixels = np.array([[10**12, 10**12, 3]])
    np.testing.assert_array_equal(majority_vote(np.array([[1, 1, 0]]), superpixels), [[1, 1, 0]])


def test_majority_vote_refuses_negative_ids():
    with pytest.raises(ValueError, match="negative"):
        majority_vote(np.zeros((1, 2), int), np.array([[-1, 0]]))


@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 9))
def test_majority_vote_equals_the_slow_one(seed, height, width):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, (height, width))
    superpixels = rng.integers(0, rng.integers(1, 40), (height, width))
    np.testing.assert_array_equal(majority_vote(labels, superpixels, 5), slow_majority_vote(labels, superpixels))


def test_regions_are_ranks_of_channels():
    regions = segment_unsupervised(PHOTO, BLOCKS, UssOptions(min_labels=2, max_iterations=3))
    n = regions.labels_per_iteration[-1]
    assert regions.labels.dtype == np.uint8
    assert len(regions.labels_per_iteration) == 3
    assert (np.diff(regions.channel_ids) > 0).all()
    np.testing.assert_array_equal(np.unique(regions.labels), np.arange(n))
    assert len(regions.channel_ids) == n
    np.testing.assert_array_equal(regions.labels, majority_vote(regions.labels, BLOCKS))


def test_stops_below_the_least_number_of_labels():
    regions = segment_unsupervised(PHOTO, BLOCKS)
    assert len(regions.labels_per_iteration) == 1
    assert regions.labels_per_iteration[0] < 20


def test_same_result_whatever_the_random_state_and_the_arrays_are():
    options = UssOptions(min_labels=2, max_iterations=2)
    first = segment_unsupervised(PHOTO, BLOCKS, options)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    frozen = np.ascontiguousarray(PHOTO[..., ::-1])[..., ::-1]
    frozen.flags.writeable = False
    with torch.no_grad():
        second = segment_unsupervised(frozen, BLOCKS, options)
    np.testing.assert_array_equal(first.labels, second.labels)
    assert first.labels_per_iteration == second.labels_per_iteration
    assert torch.equal(before, torch.get_rng_state())


def test_the_seed_and_the_channels_matter():
    options = {"min_labels": 2, "max_iterations": 1}
    first = segment_unsupervised(PHOTO, BLOCKS, UssOptions(**options))
    other = segment_unsupervised(PHOTO, BLOCKS, UssOptions(seed=44, **options))
    narrow = segment_unsupervised(PHOTO, BLOCKS, UssOptions(hidden=8, n_channels=3, **options))
    assert not np.array_equal(first.channel_ids, other.channel_ids)
    assert narrow.channel_ids.max() <= 2


def test_threads_are_put_back():
    before = torch.get_num_threads()
    segment_unsupervised(PHOTO, BLOCKS, UssOptions(max_iterations=1), threads=before + 1)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (3, 1), (1, 9)])
def test_small_images(shape):
    image = np.full((*shape, 3), 200, dtype=np.uint8)
    regions = segment_unsupervised(image, np.ones(shape, dtype=np.int32))
    np.testing.assert_array_equal(regions.labels, np.zeros(shape))
    assert regions.labels_per_iteration == (1,)


@pytest.mark.parametrize(
    ("options", "message"), [({"n_channels": 257}, "n_channels is 257"), ({"max_iterations": 0}, "max_iterations is 0")]
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        UssOptions(**options)


def test_superpixels_of_another_size():
    with pytest.raises(ValueError, match="differ in size"):
        segment_unsupervised(PHOTO, BLOCKS[1:])


USS = ("01_uss_slic/*.npz", "01_uss_quick/*.npz")


@pytest.mark.parametrize("file", cases(*USS))
def test_first_weights_as_published(file):
    published = load(file)
    tensors = [tensor.detach().numpy() for layer in initial_layers() for tensor in layer]
    assert len(tensors) == 16
    for index, tensor in enumerate(tensors):
        np.testing.assert_array_equal(tensor, published[f"w0_{index:02}"])


@pytest.mark.parametrize("file", cases(*USS, nightly=is_large))
def test_as_published(file):
    published = load(file)
    bgr, superpixels = golden_image(file.stem)[..., ::-1], published["superpixels"]
    regions = segment_unsupervised(bgr, superpixels, threads=2)
    here = published_segmentation(bgr, superpixels)
    assert regions.labels_per_iteration == tuple(len(np.unique(labels)) for labels in here)
    np.testing.assert_array_equal(regions.channel_ids[regions.labels], here[-1])
    if regions.labels_per_iteration != tuple(published["nlab_per_iter"]):
        pytest.skip(
            f"the published program itself finds {regions.labels_per_iteration} labels on this processor "
            f"({torch.backends.cpu.get_cpu_capability()}), whose sums round otherwise than the golden data's"
        )
    np.testing.assert_array_equal(regions.channel_ids, published["channel_ids"])
    assert (regions.labels == published["label_rank"]).mean() >= 0.999
    assert (regions.channel_ids[regions.labels] == published["channel_label"]).mean() >= 0.999
