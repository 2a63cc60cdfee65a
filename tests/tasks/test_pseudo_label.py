import numpy as np
import pytest

from pfit_ray.config.stages import PseudoLabelConfig
from pfit_ray.tasks.pseudo_label import PseudoLabelStage


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
