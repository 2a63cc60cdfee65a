import numpy as np
import pytest

from pfit_ray.config.stages import PseudoLabelConfig, WalkConfig
from pfit_ray.data.images import encode_grey
from pfit_ray.tasks.pseudo_label import PoolWalkStage, PseudoLabelStage, WalkStage


def test_label_and_scores() -> None:
    row = {
        "image": np.zeros((1, 4, 3), dtype=np.uint8),
        "keys": [3, 7],
        "hr_walk": np.array([[[0.9, 0.35, 0.1, 0.2]], [[0.1, 0.1, 0.2, 0.6]]], dtype=np.float32),
    }
    PseudoLabelStage(PseudoLabelConfig.model_validate({"crf": {"iterations": 0}})).process(row)
    assert row["pseudo_label"].tolist() == [[3, 0, 0, 7]]
    assert (row["foreground_share"], row["crf_change"]) == (0.5, 0.0)
    assert row["walk_margin"] == pytest.approx(((0.9 - 0.35) + (0.6 - 0.35)) / 2)


def test_crf_change() -> None:
    walk = np.zeros((1, 9, 9), dtype=np.float32)
    walk[0, 4, 4] = 1.0
    row = {"image": np.full((9, 9, 3), 90, dtype=np.uint8), "keys": [1], "hr_walk": walk}
    PseudoLabelStage(PseudoLabelConfig()).process(row)
    assert not row["pseudo_label"].any()
    assert row["crf_change"] == pytest.approx(1 / 81)


def test_no_class() -> None:
    row = {"image": np.zeros((1, 1, 3), dtype=np.uint8), "keys": [], "hr_walk": np.zeros((0, 1, 1), dtype=np.float32)}
    PseudoLabelStage(PseudoLabelConfig()).process(row)
    assert row["pseudo_label"].tolist() == [[0]]
    assert (row["walk_margin"], row["foreground_share"], row["crf_change"]) == (0.0, 0.0, 0.0)


def test_within_the_stored_regions() -> None:
    row = {
        "hr_walk": np.array([[[0.8, 0.4, 0.2, 0.2]]], dtype=np.float32),
        "walk": np.array([[[1.0]]], dtype=np.float32),
        "regions_one": encode_grey(np.array([[5, 5, 9, 9]], dtype=np.uint8)),
        "regions_two": encode_grey(np.array([[1, 1, 300, 1]], dtype=np.uint16)),
    }
    PoolWalkStage(["one", "two"]).process(row)
    expected = [[[(0.8 + 0.6 + 0.6) / 3, (0.4 + 0.6 + 0.6) / 3, 0.2, 0.2]]]
    np.testing.assert_allclose(row["hr_walk"], expected, rtol=1e-6)
    assert row["walk"] == 1.0


def test_pooled_walk_of_no_class() -> None:
    row = {
        "hr_walk": np.zeros((0, 1, 4), dtype=np.float32),
        "regions_one": encode_grey(np.zeros((1, 4), dtype=np.uint8)),
    }
    PoolWalkStage(["one"]).process(row)
    assert row["hr_walk"].shape == (0, 1, 4)


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
