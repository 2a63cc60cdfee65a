import json
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import cases, item, load
from oracles.affinity import gathered_affinity, slow_loss

from pfit_ray.ops.affinity import affinity_loss, affinity_loss_parts, affinity_pairs, edge_to_affinity
from pfit_ray.ops.path_index import destination_offsets


def test_affinity_by_hand() -> None:
    # Radius 2 on a 2 x 3 grid: the one source is the upper middle cell; destinations are to its right, below,
    # below left (over the left and the lower middle cell), below right.
    edge = torch.tensor([[[0.5, 0.1, 0.2], [0.0, 0.3, 0.0]]])
    torch.testing.assert_close(edge_to_affinity(edge, 2), torch.tensor([[[0.8], [0.7], [0.5], [0.7]]]))


def test_pairs_by_hand() -> None:
    labels = torch.tensor([[[0, 0, 0], [3, 255, 0]], [[3, 3, 7], [7, 3, 255]]], dtype=torch.uint8)
    bg_pos, fg_pos, neg = affinity_pairs(labels, 2)
    assert bg_pos[:, :, 0].int().tolist() == [[1, 0, 0, 1], [0, 0, 0, 0]]
    assert fg_pos[:, :, 0].int().tolist() == [[0, 0, 0, 0], [0, 1, 0, 0]]
    assert neg[:, :, 0].int().tolist() == [[0, 0, 1, 0], [1, 0, 1, 0]]


def test_loss_by_hand() -> None:
    edge = torch.tensor([[[0.5, 0.1, 0.2], [0.0, 0.3, 0.0]]])
    labels = torch.tensor([[[0, 0, 0], [3, 255, 0]]], dtype=torch.uint8)
    positive = -(np.log(0.8) + np.log(0.7)) / 2 / 2
    expected = positive / 2 - np.log(1 - 0.5) / 2
    loss = affinity_loss(torch.logit(edge.double()), labels, 2)
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    parts = affinity_loss_parts(torch.logit(edge.double()), labels, 2)
    np.testing.assert_allclose(torch.stack(parts), [positive * 2, 0.0, -np.log(1 - 0.5)], rtol=1e-4)


@pytest.mark.parametrize(("radius", "height", "width"), [(2, 2, 3), (3, 7, 9), (5, 11, 14), (5, 5, 9)])
def test_equals_the_gathered_paths_with_gradient(radius: int, height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(radius * height)
    edge = torch.rand(2, height, width, generator=generator, dtype=torch.float64, requires_grad=True)
    fast, slow = edge_to_affinity(edge, radius), gathered_affinity(edge, radius)
    torch.testing.assert_close(fast, slow, rtol=0, atol=0)
    weight = torch.rand(fast.shape, generator=generator, dtype=torch.float64)
    (fast_gradient,) = torch.autograd.grad((fast * weight).sum(), edge)
    (slow_gradient,) = torch.autograd.grad((slow * weight).sum(), edge)
    torch.testing.assert_close(fast_gradient, slow_gradient)


def test_gradient_of_a_tie_goes_to_the_destination() -> None:
    edge = torch.full((1, 2, 3), 0.5, requires_grad=True)
    edge_to_affinity(edge, 2).sum().backward()
    assert edge.grad is not None
    assert edge.grad[0].tolist() == [[0.0, 0.0, -1.0], [-1.0, -1.0, -1.0]]


@pytest.mark.parametrize("seed", range(3))
def test_loss_equals_the_slow_one(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 8, 12, generator=generator, requires_grad=True)
    labels = torch.tensor([0, 0, 1, 30, 255], dtype=torch.uint8)[torch.randint(5, (2, 8, 12), generator=generator)]
    loss = affinity_loss(logits, labels, 4)
    loss.backward()
    assert loss.item() == pytest.approx(slow_loss(logits.detach(), labels, 4), rel=1e-5)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_half_precision_logits_give_a_float32_loss() -> None:
    logits = torch.randn(1, 6, 9, generator=torch.Generator().manual_seed(0)).bfloat16()
    labels = torch.zeros(1, 6, 9, dtype=torch.uint8)
    loss = affinity_loss(logits, labels, 3)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, affinity_loss(logits.float(), labels, 3))


@pytest.mark.parametrize("size", [(1, 1), (4, 8), (9, 8), (4, 9)])
def test_a_grid_without_sources_has_no_loss(size: tuple[int, int]) -> None:
    logits = torch.zeros(2, *size, requires_grad=True)
    loss = affinity_loss(logits, torch.zeros(2, *size, dtype=torch.uint8), 5)
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_nothing_but_ignored_cells_has_no_loss() -> None:
    assert affinity_loss(torch.randn(1, 6, 9), torch.full((1, 6, 9), 255), 3).item() == 0.0


@pytest.mark.parametrize("file", cases("11_training_units/affinity_*.npz"))
def test_pair_counts_as_published(file: Path) -> None:
    unit = load(file)
    totals = json.loads(item("11_training_units/values.json").read_text())[file.stem]
    _, n_destinations, n_sources = unit["label_shape"]
    radius = next(radius for radius in range(2, 30) if len(destination_offsets(radius)) == n_destinations)
    pairs = affinity_pairs(torch.from_numpy(unit["label128"])[None], radius)
    for mask, name in zip(pairs, ("bg", "fg", "neg"), strict=True):
        assert mask.shape[2] == n_sources
        np.testing.assert_array_equal(mask.sum(dim=2).numpy(), unit[f"{name}_sum_per_dst"])
        assert mask.sum().item() == totals[f"n_{name}"]
