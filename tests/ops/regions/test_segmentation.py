import numpy as np
import pytest
import torch
from oracles.segmentation import slow_merge

from pfit_ray.ops.regions.segmentation import drop_rare_labels, enlarged_argmax, merge_logits


def test_logits_are_summed_not_averaged() -> None:
    scale = torch.tensor([[[[1.0]], [[0.0]]]])
    probabilities = merge_logits([scale[None], scale.expand(2, -1, -1, -1)[None]], 1, 1)[0]
    np.testing.assert_allclose(probabilities[:, 0, 0], [1 / (1 + np.exp(-3)), 1 / (1 + np.exp(3))], rtol=1e-6)
    assert probabilities.dtype == np.float32


def test_the_mirror_image_is_mirrored_back() -> None:
    scale = torch.tensor([[[[0.0, 5.0]], [[5.0, 0.0]]], [[[5.0, 0.0]], [[0.0, 5.0]]]])
    assert merge_logits([scale[None]], 1, 2)[0].argmax(axis=0).tolist() == [[1, 0]]


@pytest.mark.parametrize("maps", [1, 2])
def test_equals_the_published_order(maps: int) -> None:
    generator = torch.Generator().manual_seed(maps)
    sizes = [(3, 4), (6, 8), (9, 13), (13, 17), (1, 1)]
    logits = [torch.randn(2, maps, 5, *size, generator=generator) * 3 for size in sizes]
    found = merge_logits((scale for scale in logits), 13, 17)
    for image in range(2):
        np.testing.assert_allclose(found[image], slow_merge([one[image] for one in logits], 13, 17), atol=1e-5)


def test_inputs_are_left_as_they_were() -> None:
    scale = torch.ones(2, 1, 2, 3, 3)
    merge_logits([scale, scale], 3, 3)
    assert (scale == 1).all()


def test_half_precision_is_summed_in_float32() -> None:
    logits = [torch.randn(1, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).bfloat16()]
    np.testing.assert_array_equal(merge_logits(logits, 9, 9), merge_logits([logits[0].float()], 9, 9))


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="no logits"):
        merge_logits([], 1, 1)
    with pytest.raises(ValueError, match="shape"):
        merge_logits([torch.zeros(1, 3, 2, 1, 1)], 1, 1)


@pytest.mark.parametrize(
    ("floor", "expected"), [(0.0, [0, 1, 2]), (0.25, [0, 1]), (0.3, [0, 1]), (0.31, [0]), (0.95, [0])]
)
def test_rare_labels_are_dropped(floor: float, expected: list[int]) -> None:
    probabilities = np.array([[[0.9, 0.5]], [[0.1, 0.3]], [[0.0, 0.2]]], np.float32)
    kept, rest = drop_rare_labels(probabilities, floor)
    assert kept.tolist() == expected
    assert kept.dtype == np.int32
    np.testing.assert_array_equal(rest, probabilities[expected])


def test_the_likeliest_label_is_never_dropped() -> None:
    probabilities = np.full((200, 1, 2), 0.004, np.float32)
    probabilities[7, 0, 1] = 1 - 199 * 0.004
    probabilities[9, 0, 0] = 0.0051
    kept, _ = drop_rare_labels(probabilities, 0.3)
    assert kept.tolist() == [0, 7, 9]


def test_enlarged_argmax() -> None:
    values = np.array([[[1.0, 0.0]], [[0.0, 0.9]], [[0.2, 0.1]]], dtype=np.float32)
    assert enlarged_argmax(values, 2, 4).tolist() == [[0, 0, 1, 1]] * 2
    assert enlarged_argmax(values, 1, 2).tolist() == [[0, 1]]


def test_enlarged_argmax_is_that_of_the_enlarged_maps() -> None:
    values = np.random.default_rng(0).random((5, 7, 9), dtype=np.float32)
    large = torch.nn.functional.interpolate(torch.from_numpy(values)[None], (20, 31), mode="bilinear")[0].numpy()
    np.testing.assert_array_equal(enlarged_argmax(values, 20, 31), large.argmax(axis=0))
