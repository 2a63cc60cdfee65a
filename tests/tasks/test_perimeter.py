import numpy as np

from pfit_ray.config.stages import FitConfig
from pfit_ray.ops.regions.reference_perimeter import canny_perimeter, jpeg_round_trip, region_picture
from pfit_ray.tasks.perimeter import PerimeterStage

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
