import numpy as np

from pfit_ray.config.stages import FitConfig
from pfit_ray.ops.cam.reference_fit import reference_fit_masks
from pfit_ray.ops.regions.reference_perimeter import canny_perimeter, jpeg_round_trip, region_picture
from pfit_ray.ops.regions.region_maps import perimeter_map
from pfit_ray.tasks.fit import FitStage, PerimeterStage

# Regions 0 | 1; the CAM covers region 0 wholly and a part of region 1. Weak values count for quickshift only.
REGIONS = np.array([[0, 0, 1, 1], [0, 0, 1, 1]], dtype=np.uint8)
HR_CAM = np.array([[[0.9, 0.8, 0.03, 0.0], [0.7, 0.9, 0.0, 0.0]]], dtype=np.float32)


def test_masks_and_their_agreement() -> None:
    row = {"hr_cam": HR_CAM}
    for source in ("slic", "quickshift"):
        row |= {f"regions_{source}": REGIONS, f"perimeter_{source}": perimeter_map(REGIONS)}
    FitStage(FitConfig(), reference=False).process(row)
    expected = [[[True, True, False, False], [True, True, False, False]]]
    np.testing.assert_array_equal(row["fit_mask_slic"], expected)
    np.testing.assert_array_equal(row["fit_mask_quickshift"], expected)
    assert row["mask_agreement"] == 1.0


def test_each_source_has_its_own_threshold() -> None:
    one_region = np.zeros((2, 2), dtype=np.uint8)
    row = {"hr_cam": np.array([[[0.5, 0.5], [0.5, 0.04]]], dtype=np.float32)}
    for source in ("slic", "quickshift"):
        row |= {f"regions_{source}": one_region, f"perimeter_{source}": np.zeros((2, 2), dtype=bool)}
    FitStage(FitConfig(), reference=False).process(row)
    assert not row["fit_mask_slic"].any()
    assert row["fit_mask_quickshift"].all()
    assert row["mask_agreement"] == 0.0


def test_no_class() -> None:
    row = {"hr_cam": np.zeros((0, 2, 4), dtype=np.float32)}
    for source in ("slic", "quickshift"):
        row |= {f"regions_{source}": REGIONS, f"perimeter_{source}": perimeter_map(REGIONS)}
    FitStage(FitConfig(), reference=False).process(row)
    assert row["fit_mask_slic"].shape == (0, 2, 4)
    assert row["mask_agreement"] == 1.0


def test_published_masks() -> None:
    rng = np.random.default_rng(0)
    picture = np.repeat(np.repeat(rng.integers(0, 256, (2, 2, 3), dtype=np.uint8), 3, axis=0), 3, axis=1)
    perimeter = rng.integers(0, 256, (6, 6), dtype=np.uint8)
    hr_cam = rng.random((2, 6, 6), dtype=np.float32)
    row = {"hr_cam": hr_cam}
    for source in ("slic", "quickshift"):
        row |= {f"picture_{source}": picture, f"perimeter_{source}": perimeter}
    FitStage(FitConfig(), reference=True).process(row)
    slic = reference_fit_masks(picture, perimeter, hr_cam, cam_threshold=0.05, edge_threshold=250, clip_to_cam=True)
    quickshift = reference_fit_masks(
        picture, perimeter, hr_cam, cam_threshold=0.0, edge_threshold=200, clip_to_cam=False
    )
    np.testing.assert_array_equal(row["fit_mask_slic"], slic)
    np.testing.assert_array_equal(row["fit_mask_quickshift"], quickshift)
    assert 0 <= row["mask_agreement"] <= 1


LABELS = np.array([[0, 0, 1], [0, 0, 1], [2, 2, 1]], dtype=np.uint8)


def test_borders_of_the_labels() -> None:
    row = {"regions_slic": LABELS, "regions_quickshift": np.zeros((3, 3), dtype=np.uint8)}
    PerimeterStage(FitConfig(), reference=False).process(row)
    expected = [[False, True, False], [True, True, False], [False, True, False]]
    np.testing.assert_array_equal(row["perimeter_slic"], expected)
    assert not row["perimeter_quickshift"].any()
    assert "picture_slic" not in row


def test_published_maps_and_pictures() -> None:
    labels = np.repeat(np.repeat(LABELS, 8, axis=0), 8, axis=1)
    row = {"regions_slic": labels, "regions_quickshift": labels}
    PerimeterStage(
        FitConfig.model_validate({"published": {"canny_high": 60, "colour_seed": 44}}), reference=True
    ).process(row)
    picture = jpeg_round_trip(region_picture(labels, seed=44))
    np.testing.assert_array_equal(row["picture_slic"], picture[:, :, ::-1])
    np.testing.assert_array_equal(row["perimeter_slic"], canny_perimeter(picture, high=60))
    assert row["perimeter_slic"].max() > 200
