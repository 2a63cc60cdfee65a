"""How far work is, how fast it goes and how long it will take, in words; this module does not import torch."""

import json
from collections.abc import Sequence
from typing import Any

from pfit_ray import storage

RECENT_SECONDS = 600.0
"""What is older than this says nothing of how fast the work goes now."""

_SLOW = 0.05


def describe_rate(per_second: float, unit: str = "images") -> str:
    """A rate, per minute where it is slow."""
    return f"{per_second * 60:.2f} {unit}/min" if 0 < per_second < _SLOW else f"{per_second:.2f} {unit}/s"


def describe_left(seconds: float) -> str:
    """The time that is left."""
    return f"about {describe_duration(seconds)} left"


def describe_duration(seconds: float) -> str:
    """A duration in the largest unit that it has a few of."""
    for unit, size, most in (("s", 1, 100), ("min", 60, 100), ("h", 3600, 48)):
        if seconds / size < most:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


def recent_rate(finished: Sequence[tuple[float, int]]) -> float | None:
    """Images per second between the first and the last of the recently finished shards.

    Args:
        finished: when each shard was finished, in seconds, and its images.

    Returns:
        None if fewer than two shards, or no time between them, tell no rate.
    """
    some = recent(finished)
    if len(some) < 2 or some[-1][0] <= some[0][0]:
        return None
    return sum(images for _, images in some[1:]) / (some[-1][0] - some[0][0])


def recent(finished: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    """Those of some finished shards that `recent_rate` goes by, the last ones last."""
    ordered = sorted(finished)
    some = [one for one in ordered if one[0] >= ordered[-1][0] - RECENT_SECONDS]
    return some if len(some) > 1 else ordered[-2:]


METRICS_FILE = "metrics.jsonl"
_RECENT = 20
"""Records that the rate is taken from."""


def read_metrics(url: str) -> list[dict[str, Any]]:
    """The records of a training, oldest first; empty if there are none.

    Args:
        url: folder or URL prefix of the training.
    """
    try:
        data = storage.read_bytes(storage.join(url, METRICS_FILE))
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in data.splitlines()]


def describe_records(records: Sequence[dict[str, Any]]) -> str:
    """How far a training is, in one phrase: epoch, step, loss, images per second, and the time that is left."""
    last, recent = records[-1], records[-_RECENT:]
    seconds = sum(record["seconds"] for record in recent)
    images = sum(record["images"] for record in recent)
    parts = [f"epoch {last['epoch']}", f"step {last['step']}", f"loss {last['loss']:.4g}"]
    if seconds > 0:
        parts.append(f"{images / seconds:.1f} images/s")
    if most := last.get("max_step"):
        parts[1] += f" of {most}"
        begun = records[-_RECENT - 1]["step"] if len(records) > _RECENT else 0
        per_step = seconds / max(last["step"] - begun, 1)
        if last["step"] < most:
            parts.append(describe_left((most - last["step"]) * per_step))
    return ", ".join(parts)
