"""What a run directory says of a run: counts and seconds, failures, score columns; read shard by shard."""

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pyarrow.parquet as pq

from pfit_ray import storage
from pfit_ray.layout import IMAGE_SET, RunDirectory
from pfit_ray.seekable import open_seekable
from pfit_ray.tasks.base import Timings, add_timings

SCORES = {
    "seeds": ("mask_agreement", "cam_margin", "foreground_share"),
    "labels": ("walk_margin", "crf_change", "foreground_share"),
    "predict": ("margin", "crf_change", "foreground_share"),
}
"""Score columns of each pass; the first one that an image has ranks it."""
BINS = 20
EXAMPLES = 3
_BATCH = 4096


@dataclass(order=True, frozen=True)
class Picked:
    """An image of the contact sheets: its score and where it stands."""

    score: float
    shard: int
    image_id: str


@dataclass
class PassTold:
    """What one pass has done; `sheets` holds the picked images by the sheet's name."""

    name: str
    images: int = 0
    ok: int = 0
    failed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    stages: Timings = field(default_factory=dict)
    examples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    histograms: dict[str, list[int]] = field(default_factory=dict)
    classes: Counter[int] = field(default_factory=Counter)
    sheets: dict[str, list[Picked]] = field(default_factory=dict)


def gather_pass(run: RunDirectory, name: str, seed: int, count: int) -> PassTold | None:
    """Read the finished shards of a pass, one at a time.

    Args:
        run: the run directory.
        name: the pass.
        seed: of the random sheet.
        count: images to pick for each sheet.

    Returns:
        None where the pass has not begun.
    """
    manifest = run.read_json("manifest", f"{IMAGE_SET[name]}.json")
    if manifest is None:
        return None
    told = PassTold(name, manifest["images"])
    told.histograms = {score: [0] * BINS for score in SCORES[name]}
    random, best, worst = (list[Any]() for _ in range(3))
    dice = Random(seed)
    for shard, marker in run.finished_shards(name).items():
        told.ok += marker["ok"]
        told.failed += marker["failed"]
        told.reasons.update(marker["reasons"])
        told.stages = add_timings(told.stages, marker["stages"])
        if any(len(told.examples.get(reason, [])) < EXAMPLES for reason in marker["reasons"]):
            _add_examples(run, told, shard)
        for row in _rows(run.rows(name, shard), ["image_id", "keys", *SCORES[name]]):
            told.classes.update(row["keys"])
            scores = {score: row[score] for score in SCORES[name] if row[score] is not None}
            for score, value in scores.items():
                told.histograms[score][max(0, min(int(value * BINS), BINS - 1))] += 1
            one = Picked(next(iter(scores.values()), 0.0), shard, row["image_id"])
            for heap, rank in ((random, dice.random()), (best, one.score), (worst, -one.score)):
                heapq.heappush(heap, (rank, one))
                if len(heap) > count:
                    heapq.heappop(heap)
    picked = {"lowest": worst, "highest": best, "random": random}
    told.sheets = {sheet: [one for _, one in sorted(heap, reverse=True)] for sheet, heap in picked.items()}
    return told


def _rows(url: str, columns: list[str]) -> Iterator[dict[str, Any]]:
    with open_seekable(url) as file:
        for batch in pq.ParquetFile(file).iter_batches(_BATCH, columns=columns):
            yield from batch.to_pylist()


def _add_examples(run: RunDirectory, told: PassTold, shard: int) -> None:
    url = run.failures(told.name, shard)
    if storage.exists(url):
        for row in _rows(url, ["image_id", "stage", "reason", "message"]):
            found = told.examples.setdefault(row["reason"], [])
            if len(found) < EXAMPLES:
                found.append(row)
