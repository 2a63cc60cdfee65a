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
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from measuring import one_thread, photographs
from voc_animals_arms import ARMS, PUBLISHED, SOURCES, WALKED
from voc_animals_bench import THRESHOLDS, WALKED_MAPS, Bench, digest
from voc_animals_scores import as_sure, best_miou, other_half, sureness, taken
from voc_animals_tables import Chosen, print_labels, print_seeds, print_walks
from voc_animals_training import CONFIG, train

from pfit_ray.config import RunConfig, load_config
from pfit_ray.config.stages import AFFINITY_THRESHOLDS
from pfit_ray.given_network import given_network
from pfit_ray.nets.weights import save_network
from pfit_ray.ops.evaluation import confusion
from pfit_ray.sources import Item

RECIPE = (
    "affinitynet.backbone={name: efficientnet_lite0, weights: package}",
    *(f"affinitynet.train.{setting}" for setting in ("optimiser=sgd", "min_side=256", "max_side=384", "crop=256")),
    *(f"affinitynet.train.{setting}" for setting in ("batch_size=8", "epochs=10", "learning_rate=0.04")),
    "affinity_label.fg_threshold=null",
    "affinity_label.bg_threshold=null",
    "regions.uss.fused=true",
    "images.max_pixels=1000000",
)
STEPS = ("seeds", "labels", "walks")


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
            train(self.bench.config, "affinitynet", self.items, path, labels)
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
        with ProcessPoolExecutor(self.processes, get_context("spawn"), one_thread) as pool:
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


def _classifier(config: RunConfig, given: str, folder: Path) -> str:
    """A classifier as a file of our own, which says what it holds."""
    section = config.classifier.model_copy(update={"source": "weights", "weights": given})
    path = folder / f"classifier {digest(given)}.safetensors"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(
            save_network(given_network(config.model_copy(update={"classifier": section}), "classifier"), {})
        )
    return str(path)


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
    items = photographs(config, "train", given.images)
    for number, file in enumerate(given.classifier[: given.seeds], start=1):
        bench = Bench(config, _classifier(config, file, Path(given.cache)), Path(given.cache))
        print(f"classifier {number}, {digest(file)}, {len(items)} photographs")
        experiment = Experiment(bench, items, arms, given.processes)
        _measure(experiment, walked, STEPS.index(given.until), given.sure)


def _measure(experiment: Experiment, walked: list[str], until: int, sure: str | None) -> None:
    sweeps = experiment.seeds()
    print_seeds(experiment.arms, sweeps)
    if until < STEPS.index("labels"):
        return
    names = [name for name in walked if name in experiment.arms]
    thresholds = {name: experiment.thresholds(sweeps, name) for name in names}
    if sure is not None:
        high, low = map(float, sure.split("/"))
        thresholds = {name: (((high, low), (high, low)), (high, low)) for name in names}
    labels = {name: experiment.labels(name, thresholds[name][0]) for name in names}
    print_labels({name: matrices for name, (_, matrices) in labels.items()}, thresholds)
    if until < STEPS.index("walks"):
        return
    files = {name: experiment.affinitynet(name, labels[name][0]) for name in names}
    print_walks({name: experiment.walks(name, files[name]) for name in names})


if __name__ == "__main__":
    main()
