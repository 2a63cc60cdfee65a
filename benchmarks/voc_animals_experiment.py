"""Takes all photographs of the VOC-animals experiment through one step after another."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
from measuring import one_thread
from voc_animals_arms import PUBLISHED
from voc_animals_bench import THRESHOLDS, WALKED_MAPS, Bench
from voc_animals_scores import as_sure, best_miou, halves, other_half, sureness, taken
from voc_animals_tables import Chosen
from voc_animals_training import train

from pfit_ray.config.stages import AFFINITY_THRESHOLDS
from pfit_ray.data.sources.item import Item
from pfit_ray.rundir.directory import Network


class Experiment:
    """The photographs with one classifier, step by step."""

    def __init__(
        self, bench: Bench, items: list[Item], arms: list[str], processes: int, maps: Sequence[str] = WALKED_MAPS
    ) -> None:
        self.bench = bench
        self.items = items
        self.arms = arms
        self.processes = processes
        self.maps = maps
        self.half = halves(len(items))

    def seeds(self, *others: str) -> dict[str, np.ndarray]:
        """Sweeps (N, T, labels, labels + 1) of each arm, of the CAM and of other arms."""
        names = list(dict.fromkeys([*self.arms, *others, "none"]))
        found = self._all("seeds", [partial(self.bench.seeds, item, names) for item in self.items])
        return {name: np.stack([one[name] for one in found]) for name in names}

    def thresholds(self, sweeps: dict[str, np.ndarray], name: str) -> tuple[Chosen, tuple[float, float]]:
        """Thresholds of an arm's affinity labels for each half, from the other, and those from all photographs."""
        chosen = []
        for others in (self.half == 1, self.half == 0, self.half >= 0):
            published = sweeps[PUBLISHED][others].sum(axis=0)
            high, low = (published[THRESHOLDS.index(value)] for value in AFFINITY_THRESHOLDS["fit"])
            above, below = as_sure(sweeps[name][others].sum(axis=0), sureness(high)[0], sureness(low)[1])
            chosen.append((THRESHOLDS[above], THRESHOLDS[below]))
        return (chosen[0], chosen[1]), chosen[2]

    def labels(self, name: str, chosen: Chosen) -> tuple[list[np.ndarray], np.ndarray]:
        """Affinity labels and their matrices (N, labels, labels + 1)."""
        each = zip(self.items, self.half, strict=True)
        calls = [partial(self.bench.label, item, name, chosen[half]) for item, half in each]
        found = self._all(f"affinity labels of {name}", calls)
        return found, self._matrices(found)

    def trained(self, network: Network, name: str, labels: Sequence[np.ndarray], seed: int = 0) -> str:
        """Train a network on an arm's label maps, unless that has been done; returns its file.

        `seed` is added to that of the config.
        """
        config = self.bench.config.model_copy(update={"seed": self.bench.config.seed + seed})
        digest = hashlib.sha256(f"{config.seed} {getattr(config, network).model_dump_json()}".encode())
        for label in labels:
            digest.update(label.tobytes())
        path = self.bench.cache / f"{network} {name} {digest.hexdigest()[:8]}.safetensors"
        if not path.exists():
            print(f"{network} of {name}", flush=True)
            train(config, network, self.items, path, labels)
        return str(path)

    def walks(self, name: str, affinitynet: str) -> tuple[dict[str, np.ndarray], dict[str, list[np.ndarray]]]:
        """Matrices (N, labels, labels + 1) by kind and what walked, and pseudo labels by what walked.

        Thresholds come from the other half.
        """
        calls = [partial(self.bench.walks, item, name, affinitynet, self.maps) for item in self.items]
        found = self._all(f"walks of {name}", calls)
        matrices, labels = {}, {}
        for source in self.maps:
            sweeps = np.stack([one[source] for one in found])
            chosen = other_half(sweeps, best_miou)
            pseudo = partial(self.bench.pseudo, name=name, affinitynet=affinitynet, source=source)
            each = zip(self.items, self.half, strict=True)
            calls = [partial(pseudo, item, threshold=THRESHOLDS[chosen[half]]) for item, half in each]
            labels[source] = self._all(f"pseudo labels of {name}", calls)
            matrices[f"walk {source}"] = taken(sweeps, chosen)
            matrices[f"pseudo {source}"] = self._matrices(labels[source])
        return matrices, labels

    def truths(self) -> list[np.ndarray]:
        """Ground truth of all photographs."""
        return list(map(self.bench.truth, self.items))

    def predictions(self, name: str, deeplab: str, val: Sequence[Item]) -> np.ndarray:
        """Matrices (N, labels, labels + 1) of predictions on other photographs."""
        calls = [partial(self.bench.prediction, item, deeplab) for item in val]
        return np.stack(self._all(f"predictions of {name}", calls))

    def _matrices(self, labels: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack([self.bench.matrix(*one) for one in zip(self.items, labels, strict=True)])

    def _all(self, told: str, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        """What each call returns, computed by several processes."""
        with ProcessPoolExecutor(self.processes, get_context("spawn"), one_thread) as pool:
            waiting = [pool.submit(call) for call in calls]
            found = []
            for number, future in enumerate(waiting, start=1):
                found.append(future.result())
                print(f"\r{told}: {number} of {len(calls)}", end="\n" if number == len(calls) else "", flush=True)
        return found
