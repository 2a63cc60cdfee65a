"""The table of a training's metrics as readers see it; torch is not imported."""

import json
from collections.abc import Sequence
from typing import Any

from pfit_ray import storage
from pfit_ray.rundir.pace import describe_left

METRICS_FILE = "metrics.jsonl"
_RECENT = 20
"""Records that the rate is taken from."""


def read_metrics(url: str) -> list[dict[str, Any]]:
    """The records of a training, oldest first; empty where there are none.

    Args:
        url: folder or URL prefix of the training.
    """
    metrics_url = storage.join(url, METRICS_FILE)
    if not storage.exists(metrics_url):
        return []
    return [json.loads(line) for line in storage.read_bytes(metrics_url).splitlines()]


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
