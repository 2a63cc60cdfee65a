import numpy as np

from pfit_ray.data.images import encode_grey
from pfit_ray.tasks.pool_walk import PoolWalkStage


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


def test_no_class() -> None:
    row = {
        "hr_walk": np.zeros((0, 1, 4), dtype=np.float32),
        "regions_one": encode_grey(np.zeros((1, 4), dtype=np.uint8)),
    }
    PoolWalkStage(["one"]).process(row)
    assert row["hr_walk"].shape == (0, 1, 4)
