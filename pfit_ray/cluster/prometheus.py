"""Counters of the stages for Prometheus, exported by Ray beside its own."""

from functools import cache

from ray.util.metrics import Counter

from pfit_ray.tasks.base import Timings

COUNTED = {
    "images": "Images that the stage has processed.",
    "failed": "Images that have failed in the stage.",
    "seconds": "Wall seconds of the stage.",
    "cpu_seconds": "CPU seconds of the stage.",
    "bytes": "Bytes that the stage has read or written.",
    "retries": "Storage requests of the stage that had to be repeated.",
}
"""What is counted, and its description; a counter is called `pfit_ray_stage_` and this, and Ray adds its prefix."""


def count_stages(pass_name: str, timings: Timings) -> None:
    """Add what the stages took for one shard to this process's counters, with the tags `pass` and `stage`.

    A shard counts once it is published, so that one that is tried again is not counted twice.
    """
    for stage, timing in timings.items():
        for name in COUNTED.keys() & timing.keys():
            if timing[name] > 0:  # Ray refuses to add nothing
                _counter(name).inc(timing[name], tags={"pass": pass_name, "stage": stage})


@cache
def _counter(name: str) -> Counter:
    return Counter(f"pfit_ray_stage_{name}", description=COUNTED[name], tag_keys=("pass", "stage"))
