"""How far a run is, read from its markers."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from pfit_ray import storage
from pfit_ray.config import PASSES
from pfit_ray.layout import IMAGE_SET, NETWORKS, RunDirectory
from pfit_ray.tasks.base import Timings, add_timings


def describe_status(run: RunDirectory) -> Iterator[str]:
    """Lines for people: networks, then passes with counts, rate, reasons of failures and seconds per stage."""
    for network in NETWORKS:
        ready = storage.exists(run.weights(network))
        yield f"{network}: {'ready' if ready else 'not there yet'}"
    for name in PASSES:
        manifest = run.read_json("manifest", f"{IMAGE_SET[name]}.json")
        if manifest is None:
            yield f"pass {name}: not started"
            continue
        yield from _pass_lines(name, manifest, list(run.finished_shards(name).values()))


def _pass_lines(name: str, manifest: dict[str, Any], markers: list[dict[str, Any]]) -> Iterator[str]:
    ok = sum(marker["ok"] for marker in markers)
    failed = sum(marker["failed"] for marker in markers)
    yield (
        f"pass {name}: {ok + failed} of {manifest['images']} images ({ok} ok, {failed} failed), "
        f"{len(markers)} of {manifest['shards']} shards{_rate(markers)}"
    )
    reasons: Counter[str] = Counter()
    timings: Timings = {}
    for marker in markers:
        reasons.update(marker["reasons"])
        timings = add_timings(timings, marker["stages"])
    for reason, count in reasons.most_common():
        yield f"  failed, {reason}: {count}"
    for stage, timing in timings.items():
        yield _stage_line(stage, timing)
    repeated = sum(int(timing.get("retries", 0)) for timing in timings.values())
    if repeated:
        yield f"  storage requests that had to be repeated: {repeated}"


def _stage_line(stage: str, timing: dict[str, float]) -> str:
    images = int(timing["images"])
    seconds, cpu_seconds = (timing[name] / max(images, 1) for name in ("seconds", "cpu_seconds"))
    megabytes = f", {timing['bytes'] / 1e6:.1f} MB" if timing.get("bytes") else ""
    failed = f", {int(timing['failed'])} failed" if timing.get("failed") else ""
    return (
        f"  {stage:<20} {seconds:8.3f} s/image, {cpu_seconds:.3f} CPU s/image over {images} images{megabytes}{failed}"
    )


def _rate(markers: list[dict[str, Any]]) -> str:
    """Images per second between the first and the last marker, where there are two."""
    if len(markers) < 2:
        return ""
    ordered = sorted(markers, key=lambda marker: marker["finished"])
    seconds = ordered[-1]["finished"] - ordered[0]["finished"]
    images = sum(marker["ok"] + marker["failed"] for marker in ordered[1:])
    last = datetime.fromtimestamp(ordered[-1]["finished"]).isoformat(" ", "seconds")
    return f", {images / seconds:.2f} images/s, last at {last}" if seconds > 0 else ""
