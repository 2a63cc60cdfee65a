import pytest
from ray.util.metrics import Counter

from pfit_ray.cluster import prometheus
from pfit_ray.cluster.prometheus import COUNTED, count_stages


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str, str], float]:
    """What the counters, Ray's own, are told."""
    sums: dict[tuple[str, str, str], float] = {}
    real = Counter.inc

    def inc(counter: Counter, value: float, tags: dict[str, str]) -> None:
        key = (counter.info["name"], tags["pass"], tags["stage"])
        sums[key] = sums.get(key, 0) + value
        real(counter, value, tags)

    monkeypatch.setattr(Counter, "inc", inc)
    return sums


def test_shards_add_up_per_pass_and_stage(counted: dict[tuple[str, str, str], float]) -> None:
    cam = {"images": 4, "failed": 1, "seconds": 2.0, "cpu_seconds": 0.5}
    fetch = {"images": 4, "failed": 0, "seconds": 0.5, "cpu_seconds": 0.0, "bytes": 100, "retries": 2}
    count_stages("seeds", {"fetch": fetch, "cam": cam})
    count_stages("seeds", {"cam": cam})
    count_stages("predict", {"fetch": fetch})
    assert counted == {
        ("pfit_ray_stage_images", "seeds", "fetch"): 4,
        ("pfit_ray_stage_seconds", "seeds", "fetch"): 0.5,
        ("pfit_ray_stage_bytes", "seeds", "fetch"): 100,
        ("pfit_ray_stage_retries", "seeds", "fetch"): 2,
        ("pfit_ray_stage_images", "seeds", "cam"): 8,
        ("pfit_ray_stage_failed", "seeds", "cam"): 2,
        ("pfit_ray_stage_seconds", "seeds", "cam"): 4.0,
        ("pfit_ray_stage_cpu_seconds", "seeds", "cam"): 1.0,
        ("pfit_ray_stage_images", "predict", "fetch"): 4,
        ("pfit_ray_stage_seconds", "predict", "fetch"): 0.5,
        ("pfit_ray_stage_bytes", "predict", "fetch"): 100,
        ("pfit_ray_stage_retries", "predict", "fetch"): 2,
    }


def test_a_process_has_one_counter_of_each_name() -> None:
    for name in COUNTED:
        assert prometheus._counter(name) is prometheus._counter(name)
        assert prometheus._counter(name).info["tag_keys"] == ("pass", "stage")
