import numpy as np
import pytest

from pfit_ray.config.stages import AffinityLabelConfig
from pfit_ray.tasks.affinity_label import AffinityLabelStage


def test_label_and_scores() -> None:
    row = {
        "image": np.zeros((1, 4, 3), dtype=np.uint8),
        "keys": [3, 7],
        "hr_cam": np.array([[[0.9, 0.5, 0.1, 0.0]], [[0.1, 0.1, 0.2, 0.3]]], dtype=np.float32),
        "combined_hr_cam": np.array([[[1.8, 0.5, 0.1, 0.0]], [[0.1, 0.1, 0.2, 0.9]]], dtype=np.float32),
    }
    AffinityLabelStage(AffinityLabelConfig.model_validate({"crf": {"iterations": 0}})).process(row)
    assert row["affinity_label"].tolist() == [[3, 255, 0, 7]]
    assert row["foreground_share"] == 0.5
    assert row["cam_margin"] == pytest.approx(((0.9 - 0.4) + (0.5 - 0.4)) / 2)


def test_no_class_is_sure_background() -> None:
    empty = np.zeros((0, 1, 1), dtype=np.float32)
    row = {"image": np.zeros((1, 1, 3), dtype=np.uint8), "keys": [], "hr_cam": empty, "combined_hr_cam": empty}
    AffinityLabelStage(AffinityLabelConfig()).process(row)
    assert row["affinity_label"].tolist() == [[0]]
    assert (row["cam_margin"], row["foreground_share"]) == (0.0, 0.0)


def test_the_crf_smooths() -> None:
    cam = np.zeros((1, 9, 9), dtype=np.float32)
    cam[0, 4, 4] = 2.0
    row = {"image": np.full((9, 9, 3), 90, dtype=np.uint8), "keys": [1], "hr_cam": cam / 2, "combined_hr_cam": cam}
    AffinityLabelStage(AffinityLabelConfig()).process(row)
    assert not row["affinity_label"].any()  # one pixel of another class on a plain image
