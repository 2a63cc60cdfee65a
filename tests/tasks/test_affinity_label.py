import numpy as np
import pytest

from pfit_ray.config.stages import AffinityLabelConfig, CombineMode
from pfit_ray.tasks.affinity_label import AffinityLabelStage, CombineStage, HrCamStage


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


def test_doubled_where_both_masks_agree() -> None:
    both = np.array([[[True, True, False, False]]])
    row = {
        "cam": np.array([[[0.5]]], dtype=np.float32),
        "hr_cam": np.array([[[0.4, 0.3, 0.2, 0.1]]], dtype=np.float32),
        "fit_mask_slic": both,
        "fit_mask_quickshift": np.array([[[True, False, True, False]]]),
    }
    CombineStage().process(row)
    np.testing.assert_allclose(row["combined_hr_cam"], [[[0.8, 0.3, 0.2, 0.1]]])
    # The middle of the strided cell lies between the second and the third pixel: each mask is 0.5 there.
    np.testing.assert_allclose(row["combined_cam"], [[[0.5 + 0.5 * 0.25]]])


def test_no_class() -> None:
    empty = np.zeros((0, 4, 4), dtype=np.float32)
    row = {"cam": empty[:, :1, :1], "hr_cam": empty, "fit_mask_slic": empty > 0, "fit_mask_quickshift": empty > 0}
    CombineStage().process(row)
    assert row["combined_cam"].shape == (0, 1, 1)
    assert row["combined_hr_cam"].shape == (0, 4, 4)


MASKED = {
    "cam": np.array([[[0.5]]], dtype=np.float32),
    "hr_cam": np.array([[[0.8, 0.4, 0.2, 0.2]]], dtype=np.float32),
    "regions_one": np.array([[5, 5, 9, 9]], dtype=np.uint8),
    "regions_two": np.zeros((1, 4), dtype=np.uint16),
    "fit_mask_one": np.array([[[True, True, False, False]]]),
    "fit_mask_two": np.array([[[True, False, True, False]]]),
}


@pytest.mark.parametrize(
    ("mode", "sources", "expected", "strided"),
    [
        ("none", (), [0.8, 0.4, 0.2, 0.2], 0.5),
        ("fit", ("one", "two"), [1.6, 0.4, 0.2, 0.2], 0.5 * (1 + 0.5 * 0.5)),
        ("pool", ("one",), [0.6, 0.6, 0.2, 0.2], 0.4),
        ("pool", ("one", "two"), [0.5, 0.5, 0.3, 0.3], 0.4),
        ("pool_fit", ("one", "two"), [1.0, 0.5, 0.3, 0.3], 0.4 * (1 + 0.5 * 0.5)),
    ],
)
def test_modes(mode: CombineMode, sources: tuple[str, ...], expected: list[float], strided: float) -> None:
    row = dict(MASKED)
    CombineStage(mode, sources).process(row)
    np.testing.assert_allclose(row["combined_hr_cam"], [[expected]], rtol=1e-6)
    np.testing.assert_allclose(row["combined_cam"], [[[strided]]], rtol=1e-6)


@pytest.mark.parametrize("mode", ["pool", "pool_fit"])
def test_two_rounds_are_one_after_the_other(mode: CombineMode) -> None:
    sources = ("one", "two")
    once, twice = dict(MASKED), dict(MASKED)
    CombineStage("pool", sources).process(once)
    CombineStage(mode, sources).process(again := {**MASKED, "hr_cam": once["combined_hr_cam"]})
    CombineStage(mode, sources, rounds=2).process(twice)
    np.testing.assert_array_equal(twice["combined_hr_cam"], again["combined_hr_cam"])
    np.testing.assert_array_equal(twice["combined_cam"], again["combined_cam"])


def test_without_regions_there_is_no_agreement() -> None:
    row = dict(MASKED)
    CombineStage("none", ()).process(row)
    assert row["mask_agreement"] is None


MAPS = [np.array([[[0.0, 4.0]]], dtype=np.float32), np.array([[[2.0]]], dtype=np.float32)]


def test_scales_are_merged_at_image_size() -> None:
    row = {"cam_maps": MAPS, "height": 2, "width": 4}
    HrCamStage(crop=False).process(row)
    line = np.array([2, 3, 5, 6]) / 6
    np.testing.assert_allclose(row["hr_cam"], [[line, line]], atol=1e-5)


def test_the_published_way_resizes_to_sixteen_and_crops() -> None:
    row = {"cam_maps": MAPS, "height": 1, "width": 4}
    HrCamStage(crop=True).process(row)
    np.testing.assert_allclose(row["hr_cam"], [[[1, 1, 1, 1]]], atol=1e-5)  # far from the right half of 16 columns


def test_hr_cam_of_no_class() -> None:
    row = {"cam_maps": [np.zeros((0, 2, 2), np.float32)], "height": 1, "width": 1}
    for crop in (False, True):
        HrCamStage(crop=crop).process(row)
        assert row["hr_cam"].shape == (0, 1, 1)
