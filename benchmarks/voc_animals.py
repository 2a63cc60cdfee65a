"""How good seeds, affinity labels and pseudo labels become with each way to combine CAM and regions: docs/results.md.

    python benchmarks/voc_animals.py --root VOC2012 --classifier animals.safetensors [another seed's ...] \
      --cache FOLDER [--images 60] [--seeds 1] [--arms none,fit,pool] [--walk none,pool] [--until seeds|labels|walks] \
      [--sure 0.40/0.10]

Photographs are the first of `train` after a shuffle with seed 1. Every threshold is chosen on one half of them and
scored on the other, both ways round, so that no number is tuned on what it reports. Affinity labels of all arms are
brought to the same sureness, that of the published combination with its thresholds, so that their coverage can be
compared. Each walked arm trains an AffinityNet on its own affinity labels. The final DeepLabv3+ is not part of this.

What is measured of a photograph lies in the cache, so that a run that was stopped goes on, also with more images,
seeds or arms; give a new folder after changing code. About 20 CPU-seconds a photograph, and a few minutes of training
per walked arm.
"""

import argparse
import hashlib
import os
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import torch
from fidelity import Cache
from voc_animals_arms import ARMS, PUBLISHED, SOURCES, WALKED, Arm
from voc_animals_scores import as_sure, best_miou, difference, measured, other_half, sureness, taken

from pfit_ray import storage
from pfit_ray.config import RunConfig, load_config
from pfit_ray.config.data import ImageSetConfig, PredictedLabelsConfig
from pfit_ray.config.stages import AFFINITY_THRESHOLDS
from pfit_ray.given_network import given_network
from pfit_ray.images import decode_mask, encode_label
from pfit_ray.nets.backbones import normalisation
from pfit_ray.nets.weights import save_network
from pfit_ray.ops.evaluation import confusion, threshold_sweep
from pfit_ray.schema import Row
from pfit_ray.shards import pack_shard
from pfit_ray.sources import Item, list_images, mask_lookup
from pfit_ray.tasks.affinity_label import AffinityLabelStage
from pfit_ray.tasks.base import Stage
from pfit_ray.tasks.cam import CamStage
from pfit_ray.tasks.combine import CombineStage
from pfit_ray.tasks.decode import DecodeStage
from pfit_ray.tasks.edge import EdgeStage
from pfit_ray.tasks.fit import FitStage
from pfit_ray.tasks.hr_cam import HrCamStage
from pfit_ray.tasks.perimeter import PerimeterStage
from pfit_ray.tasks.pseudo_label import PseudoLabelStage
from pfit_ray.tasks.regions import RegionsStage
from pfit_ray.tasks.walk import WalkStage
from pfit_ray.train.examples import Examples
from pfit_ray.train.loop import Trainer, Workers
from pfit_ray.train.networks import build_objective, load_first_weights

THRESHOLDS = np.arange(0.01, 1.60, 0.01).round(2).tolist()
"""Background values of the sweeps; a doubled CAM reaches up to 2."""
CONFIG = Path(__file__).parents[1] / "configs" / "voc2012.yaml"
RECIPE = (
    "affinitynet.backbone={name: efficientnet_lite0, weights: package}",
    *(f"affinitynet.train.{setting}" for setting in ("optimiser=sgd", "min_side=256", "max_side=384", "crop=256")),
    *(f"affinitynet.train.{setting}" for setting in ("batch_size=8", "epochs=10", "learning_rate=0.04")),
    "affinity_label.fg_threshold=null",
    "affinity_label.bg_threshold=null",
    "regions.uss.fused=true",
    "images.max_pixels=1000000",
)
WALKED_MAPS = ("cam", "combined_cam")
STEPS = ("seeds", "labels", "walks")

Chosen = tuple[tuple[float, float], tuple[float, float]]
"""Thresholds of sure foreground and background for the photographs of each half."""


@dataclass(frozen=True)
class Bench:
    """Measures one photograph with one classifier."""

    config: RunConfig
    classifier: str
    cache: Path

    def seeds(self, item: Item, arms: Sequence[str]) -> dict[str, np.ndarray]:
        """Confusion matrices (T, labels, labels + 1) of each arm's seed map over the sweep."""
        keep = Cache(self.cache, item.image_id)
        lazy: list[Row] = []

        def measure(name: str) -> dict[str, np.ndarray]:
            lazy[:] = lazy or [self._row(item, keep)]
            row = self._combined(lazy[0], name, keep)
            return {"sweep": self._sweep(row["combined_hr_cam"], item)}

        return {name: keep(self._of("seed", name), partial(measure, name))["sweep"] for name in arms}

    def label(self, item: Item, name: str, thresholds: tuple[float, float]) -> np.ndarray:
        """The affinity label uint8 (H, W) of an arm."""
        keep = Cache(self.cache, item.image_id)

        def make() -> dict[str, np.ndarray]:
            row = self._combined(self._row(item, keep), name, keep)
            high, low = thresholds
            config = self.config.affinity_label.model_copy(update={"fg_threshold": high, "bg_threshold": low})
            return {"label": _run(row, AffinityLabelStage(config))["affinity_label"]}

        return keep(self._of("label {:.2f} {:.2f}".format(*thresholds), name), make)["label"]

    def walks(self, item: Item, name: str, affinitynet: str) -> dict[str, np.ndarray]:
        """Matrices of the walked CAM and the walked seed map over the sweep."""
        keep = Cache(self.cache, item.image_id)

        def make() -> dict[str, np.ndarray]:
            row = self._walkable(item, name, affinitynet, keep)
            return {source: self._sweep(self._walked(row, source)["hr_walk"], item) for source in WALKED_MAPS}

        return keep(f"walk {name} {_digest(affinitynet)}", make)

    def pseudo(self, item: Item, name: str, affinitynet: str, source: str, threshold: float) -> np.ndarray:
        """The matrix of the pseudo label, after the CRF."""
        keep = Cache(self.cache, item.image_id)

        def make() -> dict[str, np.ndarray]:
            row = self._walked(self._walkable(item, name, affinitynet, keep), source)
            config = self.config.pseudo_label.model_copy(update={"threshold": threshold})
            label = _run(row, PseudoLabelStage(config))["pseudo_label"]
            return {"matrix": confusion(label, self.truth(item), self.n_classes)}

        return keep(f"pseudo {name} {source} {threshold:.2f} {_digest(affinitynet)}", make)["matrix"]

    def truth(self, item: Item) -> np.ndarray:
        """Ground truth uint8 (H, W)."""
        return mask_lookup(self.config.data)[decode_mask(storage.fetch(str(item.mask_uri)))]

    @property
    def n_classes(self) -> int:
        """Number of foreground classes."""
        return len(self.config.data.class_list)

    def _row(self, item: Item, keep: Cache) -> Row:
        row = {"image_id": item.image_id, "keys": item.keys, "encoded": storage.fetch(item.uri)}
        _run(row, DecodeStage(self.config.images.max_pixels))
        stage = _stage(_cam_stage, self.classifier, self.config)
        stored = keep(f"cam {_digest(self.classifier)}", lambda: _arrays_of_cam(_run(dict(row), stage)))
        row["cam"] = stored.pop("cam")
        row["cam_maps"] = [stored[name] for name in sorted(stored)]
        return _run(row, HrCamStage(crop=False))

    def _combined(self, row: Row, name: str, keep: Cache) -> Row:
        arm: Arm = ARMS[name]
        work = dict(row)
        config = self.config.regions
        for source in arm.sources:
            stage = RegionsStage(source, config, reference=False)
            made = partial(_run, {"image_id": row["image_id"], "image": row["image"]}, stage)
            kept = keep(f"regions {source}", lambda made=made, stage=stage: {"regions": made()[stage.name]})
            work[stage.name] = kept["regions"]
        if arm.sources:
            sources = [config.source(source) for source in arm.sources]
            _run(work, PerimeterStage(self.config.fit, False, arm.sources), FitStage(self.config.fit, False, sources))
        return _run(work, CombineStage(arm.mode, arm.sources))

    def _walkable(self, item: Item, name: str, affinitynet: str, keep: Cache) -> Row:
        row = self._combined(self._row(item, keep), name, keep)
        stage = _stage(EdgeStage, affinitynet, self.config.walk, False)
        row["edge"] = keep(f"edge {_digest(affinitynet)}", lambda: {"edge": _run(dict(row), stage)["edge"]})["edge"]
        return row

    def _walked(self, row: Row, source: str) -> Row:
        return _run({**row, "seed_cam": row[source]}, WalkStage(self.config.walk))

    def _sweep(self, maps: np.ndarray, item: Item) -> np.ndarray:
        return threshold_sweep(maps, np.array(item.keys), self.truth(item), THRESHOLDS, self.n_classes)

    def _of(self, what: str, name: str) -> str:
        return f"{what} {name} {_digest(self.classifier)}"


class Experiment:
    """All photographs with one classifier, step by step."""

    def __init__(self, bench: Bench, items: list[Item], arms: list[str], processes: int) -> None:
        self.bench = bench
        self.items = items
        self.arms = arms
        self.processes = processes
        self.half = [number % 2 for number in range(len(items))]

    def seeds(self) -> dict[str, np.ndarray]:
        """Sweeps (N, T, labels, labels + 1) of each arm, the published one always among them."""
        names = list(dict.fromkeys([*self.arms, PUBLISHED, "none"]))
        found = self._all("seeds", partial(self.bench.seeds, arms=names), self.items)
        return {name: np.stack([one[name] for one in found]) for name in names}

    def thresholds(self, sweeps: dict[str, np.ndarray], name: str) -> tuple[Chosen, tuple[float, float]]:
        """Thresholds of an arm's affinity labels for each half, from the other, and those from all photographs."""
        half, chosen = np.array(self.half), []
        for others in (half == 1, half == 0, half >= 0):
            published = sweeps[PUBLISHED][others].sum(axis=0)
            high, low = (published[THRESHOLDS.index(value)] for value in AFFINITY_THRESHOLDS["fit"])
            above, below = as_sure(sweeps[name][others].sum(axis=0), sureness(high)[0], sureness(low)[1])
            chosen.append((THRESHOLDS[above], THRESHOLDS[below]))
        return (chosen[0], chosen[1]), chosen[2]

    def labels(self, name: str, chosen: Chosen) -> tuple[list[np.ndarray], np.ndarray]:
        """Affinity labels and their matrices (N, labels, labels + 1)."""
        each = [chosen[half] for half in self.half]
        found = self._all(f"affinity labels of {name}", partial(self.bench.label, name=name), self.items, each)
        truths = map(self.bench.truth, self.items)
        matrices = [confusion(one, truth, self.bench.n_classes) for one, truth in zip(found, truths, strict=True)]
        return found, np.stack(matrices)

    def affinitynet(self, name: str, labels: list[np.ndarray]) -> str:
        """Train an AffinityNet on an arm's labels, unless that has been done; returns its file."""
        digest = hashlib.sha256(b"".join(label.tobytes() for label in labels)).hexdigest()[:8]
        path = self.bench.cache / f"affinitynet {name} {digest}.safetensors"
        if not path.exists():
            print(f"AffinityNet of {name}", flush=True)
            _train(self.bench.config, self.items, labels, path)
        return str(path)

    def walks(self, name: str, affinitynet: str) -> dict[str, np.ndarray]:
        """Matrices (N, labels, labels + 1) by column and kind, thresholds from the other half."""
        found = self._all(f"walks of {name}", partial(self.bench.walks, name=name, affinitynet=affinitynet), self.items)
        result = {}
        for source in WALKED_MAPS:
            sweeps = np.stack([one[source] for one in found])
            chosen = other_half(sweeps, best_miou)
            result[f"walk {source}"] = taken(sweeps, chosen)
            each = [THRESHOLDS[chosen[half]] for half in self.half]
            measure = partial(self.bench.pseudo, name=name, affinitynet=affinitynet, source=source)
            result[f"pseudo {source}"] = np.stack(self._all(f"pseudo labels of {name}", measure, self.items, each))
        return result

    def _all(self, told: str, measure: Callable[..., Any], items: list[Item], each: Sequence[Any] | None = None) -> Any:
        arguments = [(item,) for item in items] if each is None else list(zip(items, each, strict=True))
        with ProcessPoolExecutor(self.processes, get_context("spawn"), _one_thread) as pool:
            waiting = [pool.submit(_call, measure, one) for one in arguments]
            found = []
            for number, future in enumerate(waiting, start=1):
                found.append(future.result())
                print(f"\r{told}: {number} of {len(items)}", end="\n" if number == len(items) else "", flush=True)
        return found


def _call(measure: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    item, *more = arguments
    if not more:
        return measure(item)
    name = "thresholds" if isinstance(more[0], tuple) else "threshold"
    return measure(item, **{name: more[0]})


def _train(config: RunConfig, items: list[Item], labels: list[np.ndarray], path: Path) -> None:
    """Train AffinityNet by the package's own loop, in this process."""
    torch.set_num_threads(os.cpu_count() or 1)
    tar, places = pack_shard((item.image_id, encode_label(label)) for item, label in zip(items, labels, strict=True))
    shard = path.with_suffix(".tar")
    shard.write_bytes(tar)
    rows = [
        {
            **{name: getattr(item, name) for name in ("image_id", "uri", "offset", "length", "row", "column")},
            "keys": list(item.keys or ()),
            "label_url": str(shard),
            "label_offset": places[item.image_id][0],
            "label_size": places[item.image_id][1],
        }
        for item in items
    ]
    objective, section = build_objective("affinitynet", config), config.affinitynet
    load_first_weights(objective.network, "affinitynet", section.backbone)
    mean, std = normalisation(objective.network.get_submodule("backbone"))
    examples = Examples(
        pa.Table.from_pylist(rows),
        section.train,
        objective.make_target,
        mean=mean,
        std=std,
        seed=config.seed,
        max_pixels=config.images.max_pixels,
        with_labels=True,
    )
    trainer = Trainer("affinitynet", objective, examples, section.train, seed=config.seed, workers=Workers())
    for _ in range(section.train.epochs):
        trainer.run_epoch(lambda record: None)
    path.write_bytes(save_network(objective.network, {}))


def _run(row: Row, *stages: Stage) -> Row:
    for stage in stages:
        stage.process(row)
    return row


def _cam_stage(weights_url: str, config: RunConfig) -> CamStage:
    return CamStage(weights_url, config.cam, PredictedLabelsConfig(), config.data.class_list.names)


@cache
def _stage(kind: Callable[..., Any], *arguments: object) -> Any:
    """A stage that has loaded its network, once per process."""
    stage = kind(*arguments)
    stage.setup()
    return stage


def _arrays_of_cam(row: Row) -> dict[str, np.ndarray]:
    return {"cam": row["cam"], **{f"map {index}": one for index, one in enumerate(row["cam_maps"])}}


def _one_thread() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


@cache
def _digest(url: str) -> str:
    return hashlib.sha256(Path(url).read_bytes()).hexdigest()[:8]


def _classifier(config: RunConfig, given: str, folder: Path) -> str:
    """A classifier as a file of our own, which says what it holds."""
    section = config.classifier.model_copy(update={"source": "weights", "weights": given})
    path = folder / f"classifier {_digest(given)}.safetensors"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(
            save_network(given_network(config.model_copy(update={"classifier": section}), "classifier"), {})
        )
    return str(path)


def _photographs(config: RunConfig, count: int) -> list[Item]:
    items = [item for item in list_images(config.data, ImageSetConfig(split="train")) if item.mask_uri and item.keys]
    random.Random(1).shuffle(items)
    return items[:count]


def _print_seeds(experiment: Experiment, sweeps: dict[str, np.ndarray]) -> None:
    plain = taken(sweeps["none"], other_half(sweeps["none"], best_miou))
    print("\n| arm | seed map mIoU | FP | FN | against the CAM | thresholds |\n|---|---|---|---|---|---|")
    for name in experiment.arms:
        chosen = other_half(sweeps[name], best_miou)
        matrices = taken(sweeps[name], chosen)
        found = measured(matrices)
        levels = " ".join(f"{THRESHOLDS[index]:.2f}" for index in chosen)
        print(
            f"| {name} | {_interval(found.miou)} | {found.fp:.1f} | {found.fn:.1f} | "
            f"{_interval(difference(matrices, plain), '+')} | {levels} |"
        )


def _print_labels(found: dict[str, np.ndarray], thresholds: dict[str, tuple[Chosen, tuple[float, float]]]) -> None:
    print("\n| arm | sure foreground right | sure background right | sure pixels | thresholds | from all |")
    print("|---|---|---|---|---|---|")
    for name, matrices in found.items():
        foreground, background, coverage = (100 * value for value in sureness(matrices.sum(axis=0)))
        halves, everything = thresholds[name]
        each = ", ".join("{:.2f} / {:.2f}".format(*one) for one in halves)
        print(
            f"| {name} | {foreground:.1f} | {background:.1f} | {coverage:.1f} | {each} | "
            f"{everything[0]:.2f} / {everything[1]:.2f} |"
        )


def _print_walks(found: dict[str, dict[str, np.ndarray]]) -> None:
    against = found.get(PUBLISHED, next(iter(found.values())))
    print("\n| arm | what | mIoU | FP | FN | against the published arm |\n|---|---|---|---|---|---|")
    for name, by_kind in found.items():
        for kind, matrices in by_kind.items():
            numbers = measured(matrices)
            more = _interval(difference(matrices, against[f"{kind.split()[0]} cam"]), "+")
            print(f"| {name} | {kind} | {_interval(numbers.miou)} | {numbers.fp:.1f} | {numbers.fn:.1f} | {more} |")


def _interval(value: tuple[float, float, float], sign: str = "") -> str:
    middle, low, high = (f"{one:{sign}.2f}" for one in value)
    return f"{middle} [{low}, {high}]"


def main() -> None:
    """Measure what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="a VOC folder")
    parser.add_argument("--classes", default="cat,cow,dog,horse,person,sheep", help="the classifier's, in its order")
    parser.add_argument("--classifier", required=True, nargs="+", help="weight files on EfficientNet-Lite0, one a seed")
    parser.add_argument("--cache", required=True, help="folder that keeps what was measured")
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--seeds", type=int, help="only the first so many classifiers")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--walk", default=",".join(WALKED), help="the arms that go on to pseudo labels")
    parser.add_argument("--sure", help="thresholds of affinity labels instead of chosen ones, such as 0.40/0.10")
    parser.add_argument("--until", choices=STEPS, default=STEPS[-1])
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    given = parser.parse_args()
    arms, walked = given.arms.split(","), [name for name in given.walk.split(",") if name]
    for name in (*arms, *walked):
        if name not in ARMS:
            parser.error(f"there is no arm {name!r}; there are {', '.join(ARMS)}")
    overrides = (f"data.root={given.root}", f"data.classes=[{given.classes}]", *RECIPE)
    config = load_config(str(CONFIG), [*overrides, "classifier.backbone.name=efficientnet_lite0"])
    regions = config.regions.model_copy(update={"sources": SOURCES})
    config = config.model_copy(update={"regions": regions})
    items = _photographs(config, given.images)
    for number, file in enumerate(given.classifier[: given.seeds], start=1):
        bench = Bench(config, _classifier(config, file, Path(given.cache)), Path(given.cache))
        print(f"classifier {number}, {_digest(file)}, {len(items)} photographs")
        experiment = Experiment(bench, items, arms, given.processes)
        _measure(experiment, walked, STEPS.index(given.until), given.sure)


def _measure(experiment: Experiment, walked: list[str], until: int, sure: str | None) -> None:
    sweeps = experiment.seeds()
    _print_seeds(experiment, sweeps)
    if until < STEPS.index("labels"):
        return
    names = [name for name in walked if name in experiment.arms]
    thresholds = {name: experiment.thresholds(sweeps, name) for name in names}
    if sure is not None:
        high, low = map(float, sure.split("/"))
        thresholds = {name: (((high, low), (high, low)), (high, low)) for name in names}
    labels = {name: experiment.labels(name, thresholds[name][0]) for name in names}
    _print_labels({name: matrices for name, (_, matrices) in labels.items()}, thresholds)
    if until < STEPS.index("walks"):
        return
    files = {name: experiment.affinitynet(name, labels[name][0]) for name in names}
    _print_walks({name: experiment.walks(name, files[name]) for name in names})


if __name__ == "__main__":
    main()
