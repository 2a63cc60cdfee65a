"""How far a run is, read from its directory alone, on any machine."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from pfit_ray import storage
from pfit_ray.config import PASSES
from pfit_ray.rundir.directory import IMAGE_SET, NETWORKS, PROGRESS_FILE, Network, RunDirectory
from pfit_ray.rundir.markers import Markers
from pfit_ray.rundir.pace import (
    describe_duration,
    describe_left,
    describe_rate,
    describe_records,
    read_metrics,
    recent,
    recent_rate,
)
from pfit_ray.tasks.base import Timings, add_timings

SILENT_SECONDS = 120.0
"""A run that works says something every half minute; after this long it has been killed, or lost its storage."""


def describe_status(run: RunDirectory) -> Iterator[str]:
    """Lines for people.

    What the run does now; networks, with the progress of a training; passes with counts, rate, the time that is left,
    reasons of failures and seconds per stage.
    """
    yield from _now(run)
    for network in NETWORKS:
        yield f"{network}: {_network(run, network)}"
    for name in PASSES:
        manifest = run.read_json("manifest", f"{IMAGE_SET[name]}.json")
        if manifest is None:
            yield f"pass {name}: not started"
            continue
        yield from _pass_lines(name, manifest, run.markers(name))


def _now(run: RunDirectory) -> Iterator[str]:
    state = run.read_json(PROGRESS_FILE)
    if state is None:
        return
    told = ", ".join(part for part in (state["line"], state["use"]) if part)
    age = max(0.0, time.time() - state["at"])
    if age < SILENT_SECONDS:
        yield f"working ({describe_duration(age)} ago): {told}"
    else:
        yield (
            f"silent for {describe_duration(age)}: the run was killed, or cannot reach its storage; the same command "
            f"continues. Last: {told}"
        )


def _network(run: RunDirectory, network: Network) -> str:
    if storage.exists(run.weights(network)):
        return "ready"
    records = read_metrics(run.url("train", network))
    return f"training, {describe_records(records)}" if records else "not there yet"


def _pass_lines(name: str, manifest: dict[str, Any], markers: Markers) -> Iterator[str]:
    reasons: Counter[str] = Counter()
    timings: Timings = {}
    shards = ok = failed = 0
    finished: list[tuple[float, int]] = []
    for table in markers.tables(["ok", "failed", "finished", "reasons", "stages"]):
        good, bad, when, why, stages = (column.to_pylist() for column in table.columns)
        shards, ok, failed = shards + len(table), ok + sum(good), failed + sum(bad)
        finished = recent([*finished, *zip(when, map(sum, zip(good, bad, strict=True)), strict=True)])
        for text in why:
            reasons.update(json.loads(text))
        for text in stages:
            timings = add_timings(timings, json.loads(text))
    yield (
        f"pass {name}: {ok + failed} of {manifest['images']} images ({ok} ok, {failed} failed), "
        f"{shards} of {manifest['shards']} shards{_rate(finished, manifest['images'] - ok - failed)}"
    )
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


def _rate(finished: list[tuple[float, int]], left: int) -> str:
    """How fast the last shards came, what that means for the rest, and when the last one came."""
    rate = recent_rate(finished)
    if rate is None:
        return ""
    last = datetime.fromtimestamp(finished[-1][0]).isoformat(" ", "seconds")
    rest = f", {describe_left(left / rate)}" if left and rate > 0 else ""
    return f", {describe_rate(rate)}{rest}, last at {last}"
