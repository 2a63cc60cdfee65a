"""What each difference between `fidelity: reference` and `lossless` does to the scores: docs/research/fidelity.md.

    python benchmarks/fidelity.py --root VOC2012 --classifier classifier.safetensors \
      [--affinitynet affinitynet.safetensors] [--deeplab deeplab.safetensors] [--images 60] [--cache FOLDER]

Networks are files as a run leaves them in its folder `checkpoints`. Seeds and walks are measured on the first
photographs of `train`, predictions on those of `val`, after a shuffle with seed 1. Each arm changes one thing; its
score is compared with that of the arm it starts from, over the same photographs. Every number comes from this
package's own stages and ops; where a stage does several published things at once, its parts are checked to add
up to it. The cache keeps what takes long (about half a minute a photograph); give it a new folder after changing code.
"""

import argparse
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from fidelity_arms import FIT_PARTS, SEED_ARMS, STARTS, WALK_ARMS, CanvasEdgeStage, partial_fit_masks
from fidelity_scores import Matrices, print_scorers, print_table
from measuring import Cache, arrays_of_cam, loaded, one_thread, photographs, run

from pfit_ray import storage
from pfit_ray.config import RunConfig, load_config
from pfit_ray.config.data import PredictedLabelsConfig
from pfit_ray.config.stages import CamConfig
from pfit_ray.constants import PUBLISHED_SOURCES, VOC_CLASSES, Row
from pfit_ray.data.images import decode_mask
from pfit_ray.data.sources.item import Item
from pfit_ray.data.sources.mask_ids import mask_lookup
from pfit_ray.ops.cam.cam import resize_maps
from pfit_ray.ops.scores.evaluation import confusion, threshold_sweep
from pfit_ray.tasks.affinity_label import AffinityLabelStage, CombineStage, HrCamStage
from pfit_ray.tasks.cam import CamStage
from pfit_ray.tasks.edge import EdgeStage
from pfit_ray.tasks.fit import FitStage, PerimeterStage
from pfit_ray.tasks.operators import DecodeStage
from pfit_ray.tasks.predict import PredictStage
from pfit_ray.tasks.prediction import PredictionStage
from pfit_ray.tasks.pseudo_label import PseudoLabelStage, WalkStage
from pfit_ray.tasks.regions import RegionsStage

THRESHOLDS = np.arange(0.05, 1.20, 0.01).round(2).tolist()
"""Background values of the sweeps; a combined CAM reaches up to 2."""
CONFIG = Path(__file__).parents[1] / "configs" / "voc2012.yaml"


@dataclass(frozen=True)
class Bench:
    """Everything that measures one photograph."""

    config: RunConfig
    classifier: str
    affinitynet: str | None
    deeplab: str | None
    cache: Path | None
    arms: tuple[str, ...] = tuple(SEED_ARMS)

    def seeds(self, item: Item) -> tuple[Row, Cache, np.ndarray]:
        """A row with image and CAM, its cache, and its ground truth."""
        keep = Cache(self.cache, item.image_id)
        row = self._decoded(item)
        cam = loaded(_cam_stage, self.classifier, self.config.cam)
        stored = keep(f"cam {_digest(self.classifier)}", lambda: arrays_of_cam(run(row, cam)))
        row["cam"] = stored.pop("cam")
        row["cam_maps"] = [stored[name] for name in sorted(stored)]
        return row, keep, self._truth(item)

    def measure_seeds(self, item: Item) -> Matrices:
        """Confusion matrices of CAM, combined CAM and affinity label for each arm, and of the walks."""
        row, keep, truth = self.seeds(item)
        found: Matrices = {}
        combined: dict[str, np.ndarray] = {}
        for name in self.arms:
            arm = SEED_ARMS[name]
            work = {**row, **self._regions(arm.regions, row, keep)}
            run(work, HrCamStage(crop=arm.crop))
            self._fit(work, arm.fit)
            run(work, CombineStage())
            combined[name] = work["combined_cam"]
            label = self._affinity_label(work, f"affinity label {name} {_digest(self.classifier)}", keep)
            if name in ("lossless", "hr_cam cropped"):
                found["CAM", name] = self._sweep(work["hr_cam"], row, truth)
            found["combined CAM", name] = self._sweep(work["combined_hr_cam"], row, truth)
            found["affinity label", name] = confusion(label, truth, self._n_classes)
        found["combined CAM", "CAM alone"] = found["CAM", "lossless"]
        if "hr_cam cropped" in self.arms:
            found["combined CAM", "CAM alone, reference"] = found["CAM", "hr_cam cropped"]
        stored = resize_maps(row["cam"].astype(np.float16), *truth.shape)
        found["strided CAM", "float32"] = self._sweep(resize_maps(row["cam"], *truth.shape), row, truth)
        found["strided CAM", "float16"] = self._sweep(stored, row, truth)
        if self.affinitynet is not None:
            found |= self._walks(row, combined, keep, truth)
        return found

    def _walks(self, row: Row, combined: Mapping[str, np.ndarray], keep: Cache, truth: np.ndarray) -> Matrices:
        found: Matrices = {}
        for name, arm in WALK_ARMS.items():
            seed = row["cam"] if arm.seed == "cam" else combined[arm.seed.removeprefix("combined ")]
            walk = self.config.walk.model_copy(update={"per_class": arm.per_class})
            work = {**row, "seed_cam": seed.astype(arm.dtype), "edge": self._edge(arm.edge, row, keep)}
            run(work, WalkStage(walk), PseudoLabelStage(self.config.pseudo_label))
            found["walk", name] = self._sweep(work["hr_walk"], row, truth)
            found["pseudo label", name] = confusion(work["pseudo_label"], truth, self._n_classes)
        return found

    def measure_predictions(self, item: Item) -> Matrices:
        """Confusion matrices of DeepLabv3+'s predictions for each arm."""
        keep = Cache(self.cache, item.image_id)
        row = self._decoded(item)
        labels = keep(f"predictions {_digest(self.deeplab)}", lambda: self._predictions(row))
        truth = self._truth(item)
        return {("prediction", name): confusion(label, truth, self._n_classes) for name, label in labels.items()}

    def _predictions(self, row: Row) -> dict[str, np.ndarray]:
        stages = {reference: self._predict_stage(reference) for reference in (False, True)}
        padded = stages[False].forward(row["image"][None])[0]
        mean = padded ** (1 / (2 * len(self.config.predict.scales)))  # over all scales and their mirror images
        return {
            "padded": self._prediction(row, padded),
            "not padded": self._prediction(row, stages[True].forward(row["image"][None])[0]),
            "mean of the logits": self._prediction(row, mean / mean.sum(axis=0)),
        }

    def _predict_stage(self, reference: bool) -> PredictStage:
        stage: PredictStage = loaded(PredictStage, self.deeplab, self.config.predict, reference)
        return stage

    def _prediction(self, row: Row, probabilities: np.ndarray) -> np.ndarray:
        work = dict(row)
        self._predict_stage(False).finish(work, probabilities)
        label: np.ndarray = run(work, PredictionStage(self.config.predict))["prediction"]
        return label

    def _regions(self, kind: str, row: Row, keep: Cache) -> dict[str, np.ndarray]:
        seen = np.ascontiguousarray(row["image"][:, :, ::-1]) if kind == "bgr" else row["image"]
        uss = self.config.regions.uss.model_copy(update={"fused": kind == "lossless"})
        config = self.config.regions.model_copy(update={"uss": uss})
        stages = [RegionsStage(source, config, kind == "reference") for source in PUBLISHED_SOURCES]

        def make() -> dict[str, np.ndarray]:
            work = run({**row, "image": seen}, *stages)
            return {stage.name: work[stage.name] for stage in stages}

        return keep(f"regions {kind}", make)

    def _fit(self, row: Row, parts: frozenset[str]) -> None:
        """Add the fit masks, by the package's stages at both ends and by their parts in between."""
        if parts in (frozenset(), FIT_PARTS):
            reference = parts == FIT_PARTS
            run(row, PerimeterStage(self.config.fit, reference), FitStage(self.config.fit, reference))
        for source in PUBLISHED_SOURCES:
            own = partial_fit_masks(row, source, self.config.fit, parts)
            if not np.array_equal(row.setdefault(f"fit_mask_{source}", own), own):
                raise SystemExit(f"{row['image_id']}: the parts of the fit do not add up to its stage")

    def _affinity_label(self, row: Row, kept: str, keep: Cache) -> np.ndarray:
        stage = AffinityLabelStage(self.config.affinity_label)
        return keep(kept, lambda: {"affinity_label": run(row, stage)["affinity_label"]})["affinity_label"]

    def _edge(self, kind: str, row: Row, keep: Cache) -> np.ndarray:
        of_kind = CanvasEdgeStage if kind == "canvas" else EdgeStage
        stage = loaded(of_kind, self.affinitynet, self.config.walk, kind == "reference")
        kept = f"edge {kind} {_digest(self.affinitynet)}"
        return keep(kept, lambda: {"edge": run(dict(row), stage)["edge"]})["edge"]

    def _decoded(self, item: Item) -> Row:
        row = {"image_id": item.image_id, "keys": item.keys, "encoded": storage.fetch(item.uri)}
        return run(row, DecodeStage(self.config.images.max_pixels))

    def _truth(self, item: Item) -> np.ndarray:
        return mask_lookup(self.config.data)[decode_mask(storage.fetch(str(item.mask_uri)))]

    def _sweep(self, maps: np.ndarray, row: Row, truth: np.ndarray) -> np.ndarray:
        return threshold_sweep(maps, np.asarray(row["keys"]), truth, THRESHOLDS, self._n_classes)

    @property
    def _n_classes(self) -> int:
        return len(self.config.data.class_list)


def _cam_stage(weights_url: str, config: CamConfig) -> CamStage:
    """The stage for photographs whose labels are known."""
    return CamStage(weights_url, config, PredictedLabelsConfig(), VOC_CLASSES)


def _measure_all(measure: Callable[[Item], Matrices], items: list[Item], processes: int) -> Matrices:
    """Matrices of all photographs, stacked along a first axis."""
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=one_thread) as pool:
        found = list(_told(pool.map(measure, items), len(items)))
    return {key: np.stack([one[key] for one in found]) for key in found[0]}


def _told(results: Iterator[Matrices], count: int) -> Iterator[Matrices]:
    for number, result in enumerate(results, start=1):
        print(f"\r{number} of {count} photographs", end="\n" if number == count else "", flush=True)
        yield result


@cache
def _digest(url: str | None) -> str:
    return hashlib.sha256(storage.read_bytes(url) if url else b"").hexdigest()[:8]


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="a VOC folder")
    parser.add_argument("--classes", default="cat,cow,dog,horse,person,sheep", help="the classifier's, in its order")
    parser.add_argument("--classifier", required=True)
    parser.add_argument("--affinitynet", help="without it, no walks")
    parser.add_argument("--deeplab", help="without it, no predictions")
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--predictions", type=int, help="photographs of val; as many as of train by default")
    parser.add_argument("--arms", nargs="+", choices=SEED_ARMS, default=list(SEED_ARMS), help="of pass 1")
    parser.add_argument("--cache", help="folder that keeps what takes long")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    given = parser.parse_args()
    config = load_config(str(CONFIG), [f"data.root={given.root}", f"data.classes=[{given.classes}]"])
    bench = Bench(
        config, given.classifier, given.affinitynet, given.deeplab, given.cache and Path(given.cache), tuple(given.arms)
    )
    found = _measure_all(bench.measure_seeds, photographs(config, "train", given.images), given.processes)
    if given.deeplab:
        items = photographs(config, "val", given.predictions or given.images)
        found |= _measure_all(bench.measure_predictions, items, given.processes)
    print_table(found, STARTS, THRESHOLDS)
    print_scorers(found, len(VOC_CLASSES))


if __name__ == "__main__":
    main()
