import json
from pathlib import Path

import numpy as np
import pytest
import torch
from oracles.affinity import first_highest_cells, gathered_affinity, gathered_loss, slow_loss
from support.golden import cases, item, load

from pfit_ray.ops.affinity.affinity import (
    affinity_losses,
    pair_counts,
    path_winners,
    window,
)
from pfit_ray.ops.affinity.path_index import destination_offsets, path_offsets


def affinity_loss(edge_logits: torch.Tensor, labels: torch.Tensor, radius: int) -> torch.Tensor:
    """The loss of AffinityNet: half for pairs of equal labels, half for unequal ones."""
    losses = affinity_losses(edge_logits, labels, radius)
    return losses.bg_pos / 4 + losses.fg_pos / 4 + losses.neg / 2


def winning_cells(values: torch.Tensor, radius: int) -> torch.Tensor:
    cells: dict[int, torch.Tensor] = {}
    for side in path_winners(values, radius):
        for place, ranks in zip(side.places, side.ranks, strict=True):
            cells[place] = side.cells.gather(1, ranks.flatten(1).long())
    return torch.stack([cells[place] for place in range(len(path_offsets(radius)))], dim=1)


def edge_to_affinity(edge: torch.Tensor, radius: int) -> torch.Tensor:
    highest = winning_cells(edge.detach(), radius)
    return 1.0 - edge.flatten(1).gather(1, highest.flatten(1)).view(highest.shape)


def test_affinity_by_hand() -> None:
    # Radius 2 on a 2 x 3 grid: the one source is the upper middle cell; destinations are to its right, below,
    # below left (over the left and the lower middle cell), below right.
    edge = torch.tensor([[[0.5, 0.1, 0.2], [0.0, 0.3, 0.0]]])
    torch.testing.assert_close(edge_to_affinity(edge, 2), torch.tensor([[[0.8], [0.7], [0.5], [0.7]]]))


def test_pairs_by_hand() -> None:
    labels = torch.tensor([[[0, 0, 0], [3, 255, 0]], [[3, 3, 7], [7, 3, 255]]], dtype=torch.uint8)
    assert pair_counts(labels[:1], 2).tolist() == [2, 0, 1]
    assert pair_counts(labels, 2).tolist() == [2, 1, 3]


def test_loss_by_hand() -> None:
    edge = torch.tensor([[[0.5, 0.1, 0.2], [0.0, 0.3, 0.0]]])
    labels = torch.tensor([[[0, 0, 0], [3, 255, 0]]], dtype=torch.uint8)
    positive = -(np.log(0.8) + np.log(0.7)) / 2 / 2
    expected = positive / 2 - np.log(1 - 0.5) / 2
    loss = affinity_loss(torch.logit(edge.double()), labels, 2)
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    losses = affinity_losses(torch.logit(edge.double()), labels, 2)
    np.testing.assert_allclose(torch.stack(losses), [positive * 2, 0.0, -np.log(1 - 0.5)], rtol=1e-4)


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(4))
def test_loss_and_gradient_equal_those_of_gathered_paths(seed: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 12, 17, generator=generator, dtype=dtype, requires_grad=True)
    labels = torch.tensor([0, 0, 1, 30, 255])[torch.randint(5, (3, 12, 17), generator=generator)]
    fast, slow = affinity_loss(logits, labels, 5), gathered_loss(logits, labels, 5)
    torch.testing.assert_close(fast, slow)
    (fast_gradient,), (slow_gradient,) = (torch.autograd.grad(loss, logits) for loss in (fast, slow))
    torch.testing.assert_close(fast_gradient, slow_gradient)


def test_gradient_of_the_loss_is_its_slope() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 6, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 0, 1, 255])[torch.randint(4, (2, 6, 8), generator=generator)]
    assert torch.autograd.gradcheck(lambda edge: affinity_loss(edge, labels, 3), logits)


def test_gradient_of_the_loss_at_a_tie_goes_to_the_destination() -> None:
    logits = torch.zeros(1, 2, 3, requires_grad=True)
    affinity_loss(logits, torch.zeros(1, 2, 3, dtype=torch.uint8), 2).backward()
    assert logits.grad is not None
    slope = 0.25 * (0.25 / 0.5) / 4  # a quarter of the mean over four pairs of -log(1 - sigmoid)
    np.testing.assert_allclose(logits.grad[0], [[0.0, 0.0, slope], [slope, slope, slope]], rtol=1e-4)


def test_a_loss_of_nan_is_nan() -> None:
    logits = torch.zeros(1, 6, 9)
    logits[0, 3, 4] = torch.nan
    assert torch.isnan(affinity_loss(logits, torch.zeros(1, 6, 9, dtype=torch.uint8), 3))


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
    n_destinations = unit["label_shape"][1]
    radius = next(radius for radius in range(2, 30) if len(destination_offsets(radius)) == n_destinations)
    names = ("bg", "fg", "neg")
    assert pair_counts(torch.from_numpy(unit["label128"])[None], radius).tolist() == [totals[f"n_{n}"] for n in names]


def test_window_by_hand() -> None:
    # Radius 2 on a 3 x 4 grid: the sources are the two middle cells of the first two rows.
    grid = torch.arange(12).view(1, 3, 4)
    assert window(grid, (0, 0), 2).tolist() == [[[1, 2], [5, 6]]]
    assert window(grid, (1, -1), 2).tolist() == [[[4, 5], [8, 9]]]


@pytest.mark.parametrize("levels", [1, 2, 3, 1000])
@pytest.mark.parametrize(("radius", "height", "width"), [(2, 2, 3), (3, 7, 9), (5, 9, 14), (10, 12, 21)])
def test_the_first_of_equals_wins(radius: int, height: int, width: int, levels: int) -> None:
    generator = torch.Generator().manual_seed(radius * levels)
    values = torch.randint(levels, (2, height, width), generator=generator) / levels
    assert torch.equal(winning_cells(values, radius), first_highest_cells(values, radius))


def test_ranks_of_large_grids_do_not_overflow() -> None:
    values = torch.rand(1, 3, 2**14 + 5, generator=torch.Generator().manual_seed(0))
    values[0, :, -2] = 2.0
    cells = winning_cells(values, 2)
    highest = torch.maximum(values[:, :2, 1:-1], values[:, :2, 2:])  # of the paths to the right
    assert torch.equal(values.flatten(1).gather(1, cells[:, 0]), highest.flatten(1))


def test_without_sources_nothing_wins() -> None:
    assert winning_cells(torch.zeros(2, 3, 3), 3).shape == (2, len(path_offsets(3)), 0)
