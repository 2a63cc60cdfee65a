from itertools import count
from pathlib import Path

import numpy as np
import pytest
from oracles.affinity import source_cells
from oracles.path_index import slow_paths
from support.golden import cases, load

from pfit_ray.ops.affinity.path_index import destination_offsets, path_offsets


def test_radius_two_by_hand() -> None:
    assert path_offsets(2) == (
        ((0, 1), (0, 0)),
        ((1, 0), (0, 0)),
        ((1, -1), (0, -1), (1, 0), (0, 0)),
        ((1, 1), (0, 1), (1, 0), (0, 0)),
    )
    assert destination_offsets(2) == ((0, 1), (1, 0), (1, -1), (1, 1))


@pytest.mark.parametrize(("radius", "destinations"), [(5, 34), (10, 152)])
def test_number_of_destinations(radius: int, destinations: int) -> None:
    assert len(destination_offsets(radius)) == len(set(destination_offsets(radius))) == destinations


@pytest.mark.parametrize("radius", [2, 3, 5, 10, 13])
def test_same_paths_as_the_definition(radius: int) -> None:
    paths = path_offsets(radius)
    assert sorted(sorted(path) for path in paths) == sorted(sorted(path) for path in slow_paths(radius))
    assert all(path[0] == offset for path, offset in zip(paths, destination_offsets(radius), strict=True))
    assert all(path[-1] == (0, 0) for path in paths)
    assert [len(path) for path in paths] == sorted(len(path) for path in paths)


def test_a_radius_without_neighbours_is_refused() -> None:
    with pytest.raises(ValueError, match="radius is 1"):
        path_offsets(1)


@pytest.mark.parametrize("file", cases("path_index/pathindex_r*_*x*.npz"))
def test_as_published(file: Path) -> None:
    unit = load(file)
    _, radius_text, size = file.stem.split("_")
    radius = int(radius_text[1:])
    height, width = map(int, size.split("x"))
    np.testing.assert_array_equal(destination_offsets(radius), unit["search_dst"])
    sources = np.array([y * width + x for y, x in source_cells(height, width, radius)])
    np.testing.assert_array_equal(sources, unit["src"])
    shifts = [[dy * width + dx for dy, dx in path] for path in path_offsets(radius)]
    np.testing.assert_array_equal([sources + path[0] for path in shifts], unit["dst"])
    start = 0
    for group in count():
        if f"path_{group}" not in unit:
            break
        cells = unit[f"path_{group}"]
        end = start + len(cells)
        np.testing.assert_array_equal(path_offsets(radius)[start:end], unit[f"search_{group}"])
        np.testing.assert_array_equal(np.array(shifts[start:end])[:, :, None] + sources, cells)
        start = end
    assert start == len(shifts)
