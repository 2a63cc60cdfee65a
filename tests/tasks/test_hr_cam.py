import numpy as np

from pfit_ray.tasks.hr_cam import HrCamStage

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


def test_no_class() -> None:
    row = {"cam_maps": [np.zeros((0, 2, 2), np.float32)], "height": 1, "width": 1}
    for crop in (False, True):
        HrCamStage(crop=crop).process(row)
        assert row["hr_cam"].shape == (0, 1, 1)
