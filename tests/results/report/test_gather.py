"""What a report shows is added up from markers; the oracle reads every row of every shard, one after the other."""

import heapq
import random
from collections import Counter, defaultdict
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from pfit_ray.data.images import encode_label
from pfit_ray.data.sources.item import Item
from pfit_ray.results.report.gather import BINS, SCORES, Picked, _dice, gather_pass, pick
from pfit_ray.rundir import finished, markers
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.rundir.finished import Ledger
from pfit_ray.rundir.manifest import write_manifest
from pfit_ray.rundir.published import read_rows
from pfit_ray.tasks.write import ShardWriter

SHARDS = 23
SIZE = 6
LABEL = encode_label(np.zeros((2, 2), np.uint8))


def picked_by_rows(run: RunDirectory, name: str, seed: int, count: int, class_count: int) -> dict[str, Any]:
    """Counts and picks, each row looked at."""
    histograms = {score: [0] * BINS for score in SCORES[name]}
    classes, pixels = Counter[int](), Counter[int]()
    heaps: dict[Any, list[Any]] = defaultdict(list)
    dice, class_dice = Random(seed), Random(f"{seed} classes")

    def push(sheet: Any, rank: float, one: Picked, most: int) -> None:
        heapq.heappush(heaps[sheet], (rank, one))
        if len(heaps[sheet]) > most:
            heapq.heappop(heaps[sheet])

    for shard in run.finished_numbers(name):
        for row in read_rows(run, name, shard):
            classes.update(row["keys"])
            pixels.update(dict(zip(row["label_ids"], row["label_pixels"], strict=True)))
            scores = {score: row[score] for score in SCORES[name] if row[score] is not None}
            for score, value in scores.items():
                histograms[score][max(0, min(int(value * BINS), BINS - 1))] += 1
            one = Picked(next(iter(scores.values()), 0.0), shard, row["image_id"])
            for sheet, rank in (("random", dice.random()), ("highest", one.score), ("lowest", -one.score)):
                push(sheet, rank, one, count)
            chance = class_dice.random()
            for key in row["keys"]:
                push(key, chance, one, class_count)
    picked = {sheet: [one for _, one in sorted(heap, reverse=True)] for sheet, heap in heaps.items()}
    return {"histograms": histograms, "classes": classes, "pixels": pixels, "picked": picked}


@pytest.fixture(params=[True, False], ids=["sums", "older markers"])
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> RunDirectory:
    """Shards in parts and beside them, some without good images; many scores are equal, and some are missing."""
    for module in (markers, finished):
        monkeypatch.setattr(module, "SHARDS_PER_PART", 4)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    run, draw = RunDirectory(str(tmp_path)), random.Random(1)
    items = (Item(f"i{number}", "u") for number in range(SHARDS * SIZE))
    write_manifest(run, "train", items, shard_size=SIZE)
    for shard in range(SHARDS):
        if shard == 21:
            continue
        rows = [row(f"i{shard * SIZE + place}", draw, good=shard != 9) for place in range(SIZE)]
        ShardWriter(run, "seeds", ()).write(shard, rows, {"cam": {"images": SIZE, "seconds": 1.0, "cpu_seconds": 0.5}})
        if not request.param:
            marker = run.read_json("seeds", "done", f"{shard:05d}.json")
            marker.pop("sums")
            run.write_json(marker, "seeds", "done", f"{shard:05d}.json")
    Ledger(run).compact("seeds")
    assert len(run.markers("seeds").parts) == 5
    return run


def row(image_id: str, draw: random.Random, good: bool) -> dict[str, Any]:
    if not good or draw.random() < 0.1:
        return {"image_id": image_id, "uri": "u", "status": "failed", "stage": "cam", "reason": "error", "message": "?"}
    keys = sorted(draw.sample([1, 2, 3, 40], draw.randrange(3)))
    score = draw.choice([None, 0.0, 0.1, 0.5, 1.0, draw.random()])
    scores = {"mask_agreement": score, "cam_margin": draw.random(), "foreground_share": draw.random()}
    areas = {"label_ids": [0, *keys], "label_pixels": [draw.randrange(9) for _ in range(len(keys) + 1)]}
    return {"image_id": image_id, "uri": "u", "status": "ok", "height": 2, "width": 2, "keys": keys, **scores, **areas,
            "label": LABEL}  # fmt: skip


@pytest.mark.parametrize(("count", "class_count"), [(0, 0), (1, 2), (7, 3), (1000, 1000)])
def test_sums_and_picks_are_those_of_all_rows(run: RunDirectory, count: int, class_count: int) -> None:
    told = gather_pass(run, "seeds", 3, count, class_count)
    assert told is not None
    expected = picked_by_rows(run, "seeds", 3, count, class_count)
    assert (told.histograms, told.classes, told.pixels) == tuple(
        expected[name] for name in ("histograms", "classes", "pixels")
    )
    assert list(told.classes) == list(expected["classes"])  # equally frequent ones keep their order
    assert told.ok + told.failed == (SHARDS - 1) * SIZE
    assert told.stages["cam"]["images"] == (SHARDS - 1) * SIZE
    assert len(told.examples["error"]) == 3
    sheets, of_class = pick(run, told, count, dict.fromkeys(told.classes, class_count))
    assert {**sheets, **of_class} == {sheet: expected["picked"].get(sheet, []) for sheet in (*sheets, *of_class)}


def test_only_shards_that_are_shown_are_opened(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    if "sums" not in run.finished_shards("seeds")[0]:
        return
    opened: list[int] = []
    real = read_rows
    monkeypatch.setattr(
        "pfit_ray.results.report.gather.read_rows",
        lambda run, name, shard, *rest, **more: (opened.append(shard), real(run, name, shard, *rest, **more))[1],
    )
    told = gather_pass(run, "seeds", 0, 2, 1)
    assert told is not None
    assert not opened
    pick(run, told, 2, {1: 1})
    assert 0 < len(opened) == len(set(opened)) <= 7


@pytest.mark.parametrize("seed", [0, 7, "7 classes"])
def test_dice_are_those_of_python(seed: int | str) -> None:
    plain = Random(seed)
    assert _dice(seed).random_sample(1500).tolist() == [plain.random() for _ in range(1500)]
