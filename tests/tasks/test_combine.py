import numpy as np

from pfit_ray.tasks.combine import CombineStage


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
