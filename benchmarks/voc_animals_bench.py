"""Measures one photograph of the VOC-animals experiment."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from measuring import Cache, arrays_of_cam, loaded, run
from voc_animals_arms import ARMS, BOTH, FEATURES, Arm

from pfit_ray import storage
from pfit_ray.config import RunConfig
from pfit_ray.config.data import PredictedLabelsConfig
from pfit_ray.config.sources import RegionSourceConfig
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
POOLED = {"": (), "pooled": BOTH, "pooled-features": FEATURES}
"""Within which regions a walked map is pooled."""
WALKED_MAPS = ("cam", "combined_cam", "cam pooled", "cam pooled-features")
"""What walks, and a word of `POOLED`."""


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

    def walks(self, item: Item, name: str, affinitynet: str, sources: Sequence[str]) -> dict[str, np.ndarray]:
        """Matrices of the walked maps over the sweep."""
        keep = Cache(self.cache, item.image_id)
        lazy: list[Row] = []

        def make(source: str) -> dict[str, np.ndarray]:
            lazy[:] = lazy or [self._walkable(item, name, affinitynet, keep)]
            return {"sweep": self._sweep(self._walked(lazy[0], source, keep)["hr_walk"], item)}

        found = {
            source: keep(f"walk {name} {source} {digest(affinitynet)}", partial(make, source)) for source in sources
        }
        return {source: one["sweep"] for source, one in found.items()}

    def pseudo(self, item: Item, name: str, affinitynet: str, source: str, threshold: float) -> np.ndarray:
        """The pseudo label uint8 (H, W), after the CRF."""
        keep = Cache(self.cache, item.image_id)

        def make() -> dict[str, np.ndarray]:
            row = self._walked(self._walkable(item, name, affinitynet, keep), source, keep)
            config = self.config.pseudo_label.model_copy(update={"threshold": threshold})
            return {"label": run(row, PseudoLabelStage(config))["pseudo_label"]}

        return keep(f"pseudo label {name} {source} {threshold:.2f} {digest(affinitynet)}", make)["label"]

    def maps(self, item: Item, name: str, affinitynet: str) -> Row:
        """All that lies between a photograph and its pseudo label, the CAM walked."""
        keep = Cache(self.cache, item.image_id)
        row = self._walkable(item, name, affinitynet, keep)
        return self._walked({**row, **self._regions(row, BOTH, keep)}, "cam", keep)

    def prediction(self, item: Item, deeplab: str) -> np.ndarray:
        """The confusion matrix (labels, labels + 1) of what a DeepLabv3+ says, after the CRF."""

        def make() -> dict[str, np.ndarray]:
            row = {"image_id": item.image_id, "encoded": storage.fetch(item.uri)}
            stages = (
                loaded(PredictStage, deeplab, self.config.predict, False, self.config.engine_of("predict")),
                PredictionStage(self.config.predict),
            )
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
        work.update(self._regions(row, arm.sources, keep))
        if arm.mode in ("fit", "pool_fit"):
            fit = FitStage(self.config.fit, False, _only(self.config.regions.sources, arm.sources))
            run(work, PerimeterStage(self.config.fit, False, arm.sources), fit)
        return run(work, CombineStage(arm.mode, arm.sources, arm.rounds))

    def _regions(self, row: Row, names: Sequence[str], keep: Cache) -> dict[str, np.ndarray]:
        """The label maps of those names, by column; all that one source gives are measured together."""

        def make(source: RegionSourceConfig) -> dict[str, np.ndarray]:
            stage = loaded(RegionsStage, source, self.config.regions, False)
            work = {name: row[name] for name in ("image_id", "image", "keys")}
            if stage.source.levels:
                run(work, loaded(_cam_stage, self.classifier, self.config, stage.source.levels))
            return {name: run(work, stage)[name] for name in stage.maps}

        found: dict[str, np.ndarray] = {}
        for source in _only(self.config.regions.sources, names):
            whole = self.config.regions.source(source.columns[0])
            of = f" {digest(self.classifier)}" if source.kind == "features" else ""
            found |= keep(f"regions {source.column}{of}", partial(make, whole))
        return {f"regions_{name}": found[f"regions_{name}"] for name in names}

    def _walkable(self, item: Item, name: str, affinitynet: str, keep: Cache) -> Row:
        row = self._combined(self._row(item, keep), name, keep)
        stage = loaded(EdgeStage, affinitynet, self.config.walk, False, self.config.engine_of("labels"))
        row["edge"] = keep(f"edge {digest(affinitynet)}", lambda: {"edge": run(dict(row), stage)["edge"]})["edge"]
        return row

    def _walked(self, row: Row, source: str, keep: Cache) -> Row:
        column, _, pooled = source.partition(" ")
        walked = run({**row, "seed_cam": row[column]}, loaded(WalkStage, self.config.walk))
        if POOLED[pooled]:
            regions = self._regions(row, POOLED[pooled], keep).values()
            walked["hr_walk"] = pool_hr_walk(walked["hr_walk"], [connected_regions(one) for one in regions])
        return walked

    def _sweep(self, maps: np.ndarray, item: Item) -> np.ndarray:
        return threshold_sweep(maps, np.array(item.keys), self.truth(item), THRESHOLDS, self.n_classes)

    def _of(self, what: str, name: str) -> str:
        return f"{what} {name} {digest(self.classifier)}"


def _cam_stage(weights_url: str, config: RunConfig, levels: tuple[int, ...] = ()) -> CamStage:
    """With levels the pass of scale 1 alone, which a run shares with its CAMs."""
    cam = config.cam.model_copy(update={"scales": (1.0,), "flip": False} if levels else {})
    names, engine = config.data.class_list.names, config.engine_of("seeds")
    return CamStage(weights_url, cam, PredictedLabelsConfig(), names, levels, engine)


def _only(sources: Sequence[RegionSourceConfig], names: Sequence[str]) -> list[RegionSourceConfig]:
    """The sources of label maps; of the trees of features only the cuts that are named."""
    found = [source for source in sources if set(source.columns) & set(names)]
    cuts = sorted({int(name.rpartition("_")[2]) for name in names if name in FEATURES})
    return [
        source.model_copy(update={"options": {"cuts": cuts}}) if source.kind == "features" else source
        for source in found
    ]


@cache
def digest(url: str) -> str:
    """The first eight digits of a file's sha256: what depends on the file is kept under them."""
    return hashlib.sha256(Path(url).read_bytes()).hexdigest()[:8]
