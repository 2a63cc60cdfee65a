"""What a run directory says of a run: counts and seconds, failures, scores; added up from the shards' markers."""

import heapq
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfit_ray.rundir.directory import IMAGE_SET, RunDirectory
from pfit_ray.rundir.published import read_failures, read_rows
from pfit_ray.storage.threads import prefetch
from pfit_ray.tasks.base import Timings, add_timings
from pfit_ray.tasks.results import BINS, SCORES, image_scores, shard_sums

EXAMPLES = 3
_READERS = 4
"""Few: each thread that reads Parquet keeps tens of MB of Arrow's memory."""
_AHEAD = 8


@dataclass(order=True, frozen=True)
class Picked:
    """An image of the contact sheets: its score and its shard."""

    score: float
    shard: int
    image_id: str


Place = tuple[float, int, int]
"""A number drawn for a good image, its shard, and its place among the shard's good rows."""


@dataclass
class PassTold:
    """What one pass has done.

    `classes` counts images and `pixels` those of label maps (255, unsure, among them) by class id. `lowest` holds the
    shards with the lowest scores, each with its lowest one's negative, `highest` those with the highest ones, `random`
    and `of_class` the images that were drawn, of all and by class id; the largest numbers come first.
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
    lowest: list[tuple[float, int]] = field(default_factory=list)
    highest: list[tuple[float, int]] = field(default_factory=list)
    random: list[Place] = field(default_factory=list)
    of_class: dict[int, list[Place]] = field(default_factory=dict)

    def add(self, sums: Mapping[str, Any]) -> None:
        """Add what a shard counts; see `shard_sums`."""
        self.classes.update(key for keys in sums["keys"] for key in keys)
        self.pixels.update({int(label): count for label, count in sums["pixels"].items()})
        for score, counts in sums["histograms"].items():
            whole = self.histograms.setdefault(score, [0] * BINS)
            self.histograms[score] = [one + more for one, more in zip(whole, counts, strict=True)]


def gather_pass(run: RunDirectory, name: str, seed: int, count: int, class_count: int = 0) -> PassTold | None:
    """Add up the finished shards of a pass; rows are read only of those whose markers have no sums yet.

    Args:
        run: the run directory.
        name: the pass.
        seed: of the random sheets.
        count: images of a sheet, at most.
        class_count: random images to draw for each class.

    Returns:
        None if the pass has not begun.
    """
    manifest = run.read_json("manifest", f"{IMAGE_SET[name]}.json")
    if manifest is None:
        return None
    told = PassTold(name, manifest["images"])
    told.histograms = {score: [0] * BINS for score in SCORES[name]}
    dice, class_dice = _dice(seed), _dice(f"{seed} classes")
    for table in run.markers(name).tables(["shard", "ok", "failed", "reasons", "stages", "marker"]):
        shards, reasons, stages, texts = (
            table[column].to_pylist() for column in ("shard", "reasons", "stages", "marker")
        )
        told.ok += sum(table["ok"].fill_null(0).to_pylist())
        told.failed += sum(table["failed"].fill_null(0).to_pylist())
        for shard, reason_text, stage_text in zip(shards, reasons, stages, strict=True):
            told.stages = add_timings(told.stages, json.loads(stage_text))
            found = json.loads(reason_text)
            told.reasons.update(found)
            if any(len(told.examples.get(reason, [])) < EXAMPLES for reason in found):
                _add_examples(run, told, shard)
        sums = list(prefetch(partial(_sums, run, name), zip(shards, texts, strict=True), _READERS, _AHEAD))
        ends = []
        for shard, one in zip(shards, sums, strict=True):
            told.add(one)
            if one["lowest"] is not None:
                ends.append((one["lowest"], one["highest"], shard))
        told.lowest = heapq.nlargest(count, [*told.lowest, *((-low, shard) for low, _, shard in ends)])
        told.highest = heapq.nlargest(count, [*told.highest, *((high, shard) for _, high, shard in ends)])
        keys = [one["keys"] for one in sums]
        images = sum(map(len, keys))
        _draw(told, shards, keys, dice.random_sample(images), class_dice.random_sample(images), count, class_count)
    return told


def pick(
    run: RunDirectory, told: PassTold, count: int, class_counts: Mapping[int, int]
) -> tuple[dict[str, list[Picked]], dict[int, list[Picked]]]:
    """The images of a pass's contact sheets; only the shards that may hold them are read.

    Args:
        run: the run directory.
        told: the pass, for which at least so many images were drawn.
        count: images of each sheet that is not of a class.
        class_counts: images of each sheet of a class, by class id.

    Returns:
        The images by the sheet's name, and by class id.
    """
    # The n images of the lowest scores are in the n shards of the lowest lowest scores; of equal ones the last count.
    ends = {"lowest": told.lowest[:count], "highest": told.highest[:count]}
    random = told.random[:count]
    of_class = {key: told.of_class.get(key, [])[:most] for key, most in class_counts.items()}
    drawn = [place for places in (random, *of_class.values()) for place in places]
    wanted = sorted({shard for shards in ends.values() for _, shard in shards} | {shard for _, shard, _ in drawn})
    read = prefetch(partial(_ranked, run, told.name), wanted, _READERS, _AHEAD)
    rows = dict(zip(wanted, read, strict=True))
    lowest = (one for _, shard in ends["lowest"] for one in rows[shard])
    highest = (one for _, shard in ends["highest"] for one in rows[shard])
    sheets = {
        "lowest": heapq.nlargest(count, lowest, key=lambda one: (-one.score, one)),
        "highest": heapq.nlargest(count, highest, key=lambda one: (one.score, one)),
        "random": [rows[shard][place] for _, shard, place in random],
    }
    return sheets, {key: [rows[shard][at] for _, shard, at in places] for key, places in of_class.items()}


def _dice(seed: int | str) -> np.random.RandomState:
    """Draws the numbers of `random.Random(seed).random()`, many at once."""
    _, state, _ = Random(seed).getstate()
    dice = np.random.RandomState()
    dice.set_state(("MT19937", np.array(state[:-1], np.uint32), state[-1], 0, 0.0))
    return dice


def _draw(
    told: PassTold,
    shards: Sequence[int],
    keys: Sequence[Sequence[Sequence[int]]],
    chances: NDArray[np.float64],
    class_chances: NDArray[np.float64],
    count: int,
    class_count: int,
) -> None:
    """Keep the images with the largest numbers.

    Args:
        told: the pass.
        shards: the next shards.
        keys: class ids by shard and good image.
        chances: a number for each image.
        class_chances: another one.
        count: images to keep.
        class_count: images to keep of each class.
    """
    of_image = np.repeat(np.array(shards, np.int64), np.array([len(some) for some in keys], np.int64))
    places = np.concatenate([np.zeros(0, np.int64), *(np.arange(len(some)) for some in keys)])

    def kept(known: list[Place], most: int, numbers: NDArray[np.float64], some: NDArray[np.int64]) -> list[Place]:
        more = zip(numbers[some].tolist(), of_image[some].tolist(), places[some].tolist(), strict=True)
        return heapq.nlargest(most, [*known, *more])

    told.random = kept(told.random, count, chances, np.argsort(-chances)[:count])
    sizes = np.array([len(one) for some in keys for one in some], np.int64)
    owners = np.repeat(np.arange(len(sizes)), sizes)
    flat = np.array([key for some in keys for one in some for key in one], np.int64)
    order = np.lexsort((-class_chances[owners], flat))
    found, starts = np.unique(flat[order], return_index=True)
    for key, start, end in zip(found.tolist(), starts, [*starts[1:], len(order)], strict=True):
        some = owners[order[start : min(end, start + class_count)]]
        told.of_class[key] = kept(told.of_class.get(key, []), class_count, class_chances, some)


def _sums(run: RunDirectory, name: str, marker: tuple[int, str]) -> Mapping[str, Any]:
    """The sums of a shard, given its number and its marker; those of older versions have none."""
    shard, text = marker
    found: Mapping[str, Any] | None = json.loads(text).get("sums")
    if found is None:
        columns = ["keys", "label_ids", "label_pixels", *SCORES[name]]
        found = shard_sums(name, read_rows(run, name, shard, columns, small=True))
    return found


def _ranked(run: RunDirectory, name: str, shard: int) -> list[Picked]:
    """The good images of a shard in their order."""
    rows = read_rows(run, name, shard, ["image_id", *SCORES[name]], small=True)
    return [Picked(next(iter(image_scores(name, row).values()), 0.0), shard, row["image_id"]) for row in rows]


def _add_examples(run: RunDirectory, told: PassTold, shard: int) -> None:
    for row in read_failures(run, told.name, shard):
        found = told.examples.setdefault(row["reason"], [])
        if len(found) < EXAMPLES:
            found.append(row)
