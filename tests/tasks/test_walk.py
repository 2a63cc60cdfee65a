import numpy as np
import pytest

from pfit_ray.config.stages import WalkConfig
from pfit_ray.tasks.walk import WalkStage


def row(seed: np.ndarray) -> dict:
    return {"seed_cam": seed, "edge": np.zeros((2, 2), dtype=np.float32), "height": 7, "width": 8}


@pytest.mark.parametrize("per_class", [True, False])
def test_walked_maps_at_both_sizes(per_class: bool) -> None:
    seed = np.array([[[1, 0], [0, 0]], [[0, 0], [0, 0.5]]], dtype=np.float16)
    result = row(seed)
    WalkStage(WalkConfig(exp_times=8, per_class=per_class)).process(result)
    assert (result["walk"].dtype, result["hr_walk"].dtype) == (np.float32, np.float32)
    assert result["hr_walk"].shape == (2, 7, 8)
    weak = 1.0 if per_class else 0.5
    np.testing.assert_allclose(result["walk"], [np.ones((2, 2)), np.full((2, 2), weak)], rtol=1e-4)
    np.testing.assert_allclose(result["hr_walk"][1], np.full((7, 8), weak), rtol=1e-4)


def test_no_step_leaves_the_seed() -> None:
    result = row(np.array([[[1, 0], [0, 0]]], dtype=np.float16))
    result["edge"][:] = 1 - 1e-6  # nothing passes
    WalkStage(WalkConfig(exp_times=0)).process(result)
    np.testing.assert_allclose(result["walk"], [[[1, 0], [0, 0]]], atol=1e-6)


@pytest.mark.parametrize("per_class", [True, False])
def test_nothing_to_walk(per_class: bool) -> None:
    empty = row(np.zeros((0, 2, 2), dtype=np.float16))
    WalkStage(WalkConfig(per_class=per_class)).process(empty)
    assert (empty["walk"].shape, empty["hr_walk"].shape) == ((0, 2, 2), (0, 7, 8))
    black = row(np.zeros((1, 2, 2), dtype=np.float16))
    WalkStage(WalkConfig(per_class=per_class)).process(black)
    assert not black["walk"].any()
    assert not black["hr_walk"].any()
