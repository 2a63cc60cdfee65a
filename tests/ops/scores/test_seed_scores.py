import numpy as np
import pytest

from pfit_ray.ops.scores.seed_scores import cam_margin, crf_change, foreground_share, mask_agreement


def test_mask_agreement_weighs_by_activation():
    hr_cam = np.array([[[0.6, 0.2, 0.0, 1.0]]], dtype=np.float32)
    masks_a = np.array([[[1, 1, 1, 0]]], dtype=bool)
    masks_b = np.array([[[1, 0, 0, 0]]], dtype=bool)
    assert mask_agreement([masks_a, masks_b], hr_cam) == pytest.approx(0.75)
    assert mask_agreement([masks_a, masks_a], hr_cam) == 1.0
    assert mask_agreement([masks_a, ~masks_a], hr_cam) == 0.0


def test_mask_agreement_of_nothing_is_full():
    nothing = np.zeros((1, 2, 2), dtype=bool)
    assert mask_agreement([nothing, nothing], np.ones((1, 2, 2))) == 1.0
    assert mask_agreement([~nothing, ~nothing], np.zeros((1, 2, 2))) == 1.0
    assert mask_agreement([nothing[:0], nothing[:0]], np.ones((0, 2, 2))) == 1.0


def test_cam_margin_is_the_lead_over_the_second_class_or_the_background():
    hr_cam = np.array([[[0.9, 0.8, 0.1]], [[0.1, 0.6, 0.2]]], dtype=np.float32)
    assert cam_margin(hr_cam, threshold=0.3) == pytest.approx((0.6 + 0.2) / 2)


def test_cam_margin_without_foreground_is_zero():
    assert cam_margin(np.full((2, 3, 3), 0.2), threshold=0.3) == 0.0
    assert cam_margin(np.zeros((0, 3, 3)), threshold=0.0) == 0.0


def test_foreground_share_leaves_out_background_and_ignored():
    assert foreground_share(np.array([[0, 255, 3, 7]], dtype=np.uint8)) == 0.5


def test_crf_change():
    before = np.array([[0, 1, 1, 2]], dtype=np.uint8)
    assert crf_change(before, np.array([[0, 1, 2, 2]], dtype=np.uint8)) == 0.25
    assert crf_change(before, before) == 0.0
    with pytest.raises(ValueError, match="cannot be compared"):
        crf_change(before, before[:, 1:])
