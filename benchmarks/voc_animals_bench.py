"""Measures one photograph of the VOC-animals experiment."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from measuring import Cache, arrays_of_cam, loaded, run
from voc_animals_arms import ARMS, BOTH, Arm

from pfit_ray import storage
from pfit_ray.config import RunConfig
from pfit_ray.config.data import PredictedLabelsConfig
from pfit_ray.constants import Row
from pfit_ray.data.images import decode_mask
from pfit_ray.data.sources.item import Item
from pfit_ray.data.sources.mask_ids import mask_lookup
from pfit_ray.ops.cam.perimeter_fit import connected_regions
from pfit_ray.ops.cam.pool import pool_hr_walk
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

THRESHOLDS = np.arange(0.01, 1.60, 0.01).round(2).tolist()
"""Background values of the sweeps; a doubled CAM reaches up to 2."""
WALKED_MAPS = ("cam", "combined_cam", "cam pooled")
"""What walks; pooled: the walked map is pooled within the regions of slic and quickshift."""


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
            return {"label": run(row, AffinityLabelStage(config))["affinity_label"]}

        return keep(self._of("label {:.2f} {:.2f}".format(*thresholds), name), make)["label"]

    def walks(self, item: Item, name: str, affinitynet: str) -> dict[str, np.ndarray]:
        """Matrices of the walked CAM and the walked seed map over the sweep."""
        keep = Cache(self.cache, item.image_id)

        def make() -> dict[str, np.ndarray]:
            row = self._walkable(item, name, affinitynet, keep)
            return {source: self._sweep(self._walked(row, source)["hr_walk"], item) for source in WALKED_MAPS}

        return keep(f"walk and pooled walk {name} {digest(affinitynet)}", make)

    def pseudo(self, item: Item, name: str, affinitynet: str, source: str, threshold: float) -> np.ndarray:
        """The pseudo label uint8 (H, W), after the CRF."""
        keep = Cache(self.cache, item.image_id)

        def make() -> dict[str, np.ndarray]:
            row = self._walked(self._walkable(item, name, affinitynet, keep), source)
            config = self.config.pseudo_label.model_copy(update={"threshold": threshold})
            return {"label": run(row, PseudoLabelStage(config))["pseudo_label"]}

        return keep(f"pseudo label {name} {source} {threshold:.2f} {digest(affinitynet)}", make)["label"]

    def maps(self, item: Item, name: str, affinitynet: str) -> Row:
        """All that lies between a photograph and its pseudo label, the CAM walked."""
        return self._walked(self._walkable(item, name, affinitynet, Cache(self.cache, item.image_id)), "cam")

    def prediction(self, item: Item, deeplab: str) -> np.ndarray:
        """The confusion matrix (labels, labels + 1) of what a DeepLabv3+ says, after the CRF."""

        def make() -> dict[str, np.ndarray]:
            row = {"image_id": item.image_id, "encoded": storage.fetch(item.uri)}
            stages = loaded(PredictStage, deeplab, self.config.predict, False), PredictionStage(self.config.predict)
            label = run(row, DecodeStage(self.config.images.max_pixels), *stages)["prediction"]
            return {"matrix": self.matrix(item, label)}

        return Cache(self.cache, item.image_id)(f"prediction {digest(deeplab)}", make)["matrix"]

    def matrix(self, item: Item, label: np.ndarray) -> np.ndarray:
        """The confusion matrix (labels, labels + 1) of a label map."""
        return confusion(label, self.truth(item), self.n_classes)

    def truth(self, item: Item) -> np.ndarray:
        """Ground truth uint8 (H, W)."""
        return mask_lookup(self.config.data)[decode_mask(storage.fetch(str(item.mask_uri)))]

    @property
    def n_classes(self) -> int:
        """Number of foreground classes."""
        return len(self.config.data.class_list)

    def _row(self, item: Item, keep: Cache) -> Row:
        row = {"image_id": item.image_id, "keys": item.keys, "encoded": storage.fetch(item.uri)}
        run(row, DecodeStage(self.config.images.max_pixels))
        stage = loaded(_cam_stage, self.classifier, self.config)
        stored = keep(f"cam {digest(self.classifier)}", lambda: arrays_of_cam(run(dict(row), stage)))
        row["cam"] = stored.pop("cam")
        row["cam_maps"] = [stored[name] for name in sorted(stored)]
        return run(row, HrCamStage(crop=False))

    def _combined(self, row: Row, name: str, keep: Cache) -> Row:
        arm: Arm = ARMS[name]
        work = dict(row)
        config = self.config.regions
        work.update({f"regions_{source}": self._regions(row, source, keep) for source in arm.sources})
        if arm.sources:
            sources = [config.source(source) for source in arm.sources]
            run(work, PerimeterStage(self.config.fit, False, arm.sources), FitStage(self.config.fit, False, sources))
        return run(work, CombineStage(arm.mode, arm.sources, arm.rounds))

    def _regions(self, row: Row, source: str, keep: Cache) -> np.ndarray:
        def make() -> dict[str, np.ndarray]:
            stage = RegionsStage(source, self.config.regions, reference=False)
            return {"regions": run({name: row[name] for name in ("image_id", "image")}, stage)[stage.name]}

        return keep(f"regions {source}", make)["regions"]

    def _walkable(self, item: Item, name: str, affinitynet: str, keep: Cache) -> Row:
        row = self._combined(self._row(item, keep), name, keep)
        row.update({f"regions_{source}": self._regions(row, source, keep) for source in BOTH})
        stage = loaded(EdgeStage, affinitynet, self.config.walk, False)
        row["edge"] = keep(f"edge {digest(affinitynet)}", lambda: {"edge": run(dict(row), stage)["edge"]})["edge"]
        return row

    def _walked(self, row: Row, source: str) -> Row:
        column, _, pooled = source.partition(" ")
        walked = run({**row, "seed_cam": row[column]}, WalkStage(self.config.walk))
        if pooled:
            regions = [connected_regions(row[f"regions_{name}"]) for name in BOTH]
            walked["hr_walk"] = pool_hr_walk(walked["hr_walk"], regions)
        return walked

    def _sweep(self, maps: np.ndarray, item: Item) -> np.ndarray:
        return threshold_sweep(maps, np.array(item.keys), self.truth(item), THRESHOLDS, self.n_classes)

    def _of(self, what: str, name: str) -> str:
        return f"{what} {name} {digest(self.classifier)}"


def _cam_stage(weights_url: str, config: RunConfig) -> CamStage:
    return CamStage(weights_url, config.cam, PredictedLabelsConfig(), config.data.class_list.names)


@cache
def digest(url: str) -> str:
    """The first eight digits of a file's sha256: what depends on the file is kept under them."""
    return hashlib.sha256(Path(url).read_bytes()).hexdigest()[:8]
