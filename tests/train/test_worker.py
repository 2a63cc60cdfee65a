import pytest

from pfit_ray.train.worker import summary


def test_summary() -> None:
    records = [
        {"epoch": 1, "step": 10, "loss": 9.0, "images": 40, "seconds": 4.0, "data_wait": 0.5},
        {"epoch": 1, "step": 12, "loss": 8.0, "images": 8, "seconds": 1.0, "data_wait": 0.0, "skipped": {"a": "x"}},
        {"epoch": 2, "step": 22, "loss": 1.0, "images": 40, "seconds": 4.0, "data_wait": 0.25},
        {"epoch": 2, "step": 24, "loss": 2.0, "images": 8, "seconds": 1.0, "data_wait": 0.0, "skipped": {"a": "x"}},
    ]
    assert summary(records) == {
        "epochs": 2,
        "steps": 24,
        "loss": pytest.approx((1.0 * 40 + 2.0 * 8) / 48),
        "seconds": 10.0,
        "images_per_second": 9.6,
        "data_wait": pytest.approx(0.3),
        "skipped_images": 1,
    }
