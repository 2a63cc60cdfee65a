"""What a run directory says of a run: counts and seconds, failures, score columns; read shard by shard."""

import heapq
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from random import Random
from typing import Any

from pfit_ray.rundir.directory import IMAGE_SET, RunDirectory
from pfit_ray.rundir.published import read_failures, read_rows
from pfit_ray.tasks.base import Timings, add_timings

SCORES = {
    "seeds": ("mask_agreement", "cam_margin", "foreground_share"),
    "labels": ("walk_margin", "crf_change", "foreground_share"),
    "predict": ("margin", "crf_change", "foreground_share"),
}
"""Score columns of each pass; the first one that an image has ranks it."""
BINS = 20
EXAMPLES = 3


@dataclass(order=True, frozen=True)
class Picked:
    """An image of the contact sheets: its score and its shard."""

    score: float
    shard: int
    image_id: str


@dataclass
class PassTold:
    """What one pass has done.

    `classes` counts images and `pixels` those of label maps (255, unsure, among them) by class id; `sheets` holds the
    picked images by the sheet's name, `class_sheets` by class id.
    """

    name: str
    images: int = 0
    ok: int = 0
    failed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    stages: Timings = field(default_factory=dict)
    examples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    histograms: dict[str, list[int]] = field(default_factory=dict)
    classes: Counter[int] = field(default_factory=Counter)
    pixels: Counter[int] = field(default_factory=Counter)
    sheets: dict[str, list[Picked]] = field(default_factory=dict)
    class_sheets: dict[int, list[Picked]] = field(default_factory=dict)


def gather_pass(run: RunDirectory, name: str, seed: int, count: int, class_count: int = 0) -> PassTold | None:
    """Read the finished shards of a pass, one at a time.

    Args:
        run: the run directory.
        name: the pass.
        seed: of the random sheets.
        count: images to pick for each sheet.
        class_count: random images to pick for each class.

    Returns:
        None if the pass has not begun.
    """
    manifest = run.read_json("manifest", f"{IMAGE_SET[name]}.json")
    if manifest is None:
        return None
    told = PassTold(name, manifest["images"])
    told.histograms = {score: [0] * BINS for score in SCORES[name]}
    random, best, worst = (list[Any]() for _ in range(3))
    by_class: dict[int, list[Any]] = defaultdict(list)
    dice, class_dice = Random(seed), Random(f"{seed} classes")
    for shard, marker in run.finished_shards(name).items():
        told.ok += marker["ok"]
        told.failed += marker["failed"]
        told.reasons.update(marker["reasons"])
        told.stages = add_timings(told.stages, marker["stages"])
        if any(len(told.examples.get(reason, [])) < EXAMPLES for reason in marker["reasons"]):
            _add_examples(run, told, shard)
        columns = ["image_id", "keys", "label_ids", "label_pixels", *SCORES[name]]
        for row in read_rows(run, name, shard, columns, small=True):
            told.classes.update(row["keys"])
            told.pixels.update(dict(zip(row.get("label_ids") or (), row.get("label_pixels") or (), strict=True)))
            scores = {score: row[score] for score in SCORES[name] if row[score] is not None}
            for score, value in scores.items():
                told.histograms[score][max(0, min(int(value * BINS), BINS - 1))] += 1
            one = Picked(next(iter(scores.values()), 0.0), shard, row["image_id"])
            for heap, rank in ((random, dice.random()), (best, one.score), (worst, -one.score)):
                _push(heap, rank, one, count)
            chance = class_dice.random()
            for key in row["keys"]:
                _push(by_class[key], chance, one, class_count)
    picked = {"lowest": worst, "highest": best, "random": random}
    told.sheets = {sheet: _in_order(heap) for sheet, heap in picked.items()}
    told.class_sheets = {key: _in_order(heap) for key, heap in by_class.items()}
    return told


def _push(heap: list[Any], rank: float, one: Picked, count: int) -> None:
    heapq.heappush(heap, (rank, one))
    if len(heap) > count:
        heapq.heappop(heap)


def _in_order(heap: list[Any]) -> list[Picked]:
    return [one for _, one in sorted(heap, reverse=True)]


def _add_examples(run: RunDirectory, told: PassTold, shard: int) -> None:
    for row in read_failures(run, told.name, shard):
        found = told.examples.setdefault(row["reason"], [])
        if len(found) < EXAMPLES:
            found.append(row)
