import numpy as np
import pytest
from skimage.filters import threshold_li, threshold_otsu

from pfit_ray.ops.scores.suggest_threshold import ValueHistogram


def suggest_threshold(cams: list[np.ndarray]) -> float | None:
    histogram = ValueHistogram()
    for cam in cams:
        histogram.add(cam)
    return histogram.threshold()


def test_two_heaps_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    weak, strong = rng.normal(0.1, 0.03, (40, 50)), rng.normal(0.7, 0.05, (40, 50))
    level = suggest_threshold([np.stack([weak, np.zeros_like(weak)]), strong[None]])
    assert level is not None
    assert 0.2 < level < 0.5


def test_it_is_the_threshold_of_all_cells() -> None:
    maps = [np.random.default_rng(seed).beta(0.5, 2.0, (2, 30, 40)) for seed in range(5)]
    cells = np.concatenate([one.max(axis=0).ravel() for one in maps])
    both = (threshold_li(cells) + threshold_otsu(cells)) / 2
    assert suggest_threshold(maps) == pytest.approx(both, abs=0.01)


def test_maps_that_suggest_nothing() -> None:
    assert suggest_threshold([]) is None
    assert suggest_threshold([np.zeros((0, 3, 3))]) is None
    assert suggest_threshold([np.full((1, 3, 3), 0.5)]) is None
