import pytest
import torch
from oracles.affinity import first_highest_cells

from pfit_ray.ops.affinity.path_index import path_offsets
from pfit_ray.ops.affinity.path_maximum import path_winners, window


def winning_cells(values: torch.Tensor, radius: int) -> torch.Tensor:
    cells: dict[int, torch.Tensor] = {}
    for side in path_winners(values, radius):
        for place, ranks in zip(side.places, side.ranks, strict=True):
            cells[place] = side.cells.gather(1, ranks.flatten(1).long())
    return torch.stack([cells[place] for place in range(len(path_offsets(radius)))], dim=1)


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
