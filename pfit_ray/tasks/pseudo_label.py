"""Stages that turn a CAM and its edges into a pseudo label: random walk, pooling within regions, thresholds."""

from collections.abc import Sequence

import numpy as np

from pfit_ray.config.stages import PseudoLabelConfig, WalkConfig
from pfit_ray.constants import CrfEngine, Row
from pfit_ray.data.images import decode_grey
from pfit_ray.ops.affinity.walk import random_walk, upsample_walk
from pfit_ray.ops.cam.label_maps import pseudo_label
from pfit_ray.ops.cam.pool import pool_hr_walk
from pfit_ray.ops.crf.crf import LabelCrf
from pfit_ray.ops.scores.seed_scores import cam_margin, crf_change, foreground_share
from pfit_ray.tasks.base import Stage, columns
from pfit_ray.tasks.fit import components_of


class WalkStage(Stage):
    """Adds `walk` (float32 (K, h, w)) and `hr_walk` (float32 (K, H, W)), both in [0, 1].

    Args:
        config: the walk's numbers; `seed_cam` is what walks.
    """

    name = "walk"
    reads = ("seed_cam", "edge", "height", "width")
    adds = ("walk", "hr_walk")

    def __init__(self, config: WalkConfig) -> None:
        self.config = config

    def process(self, row: Row) -> None:
        """Walk one image's CAM."""
        seed = row["seed_cam"].astype(np.float32)
        config = self.config
        walk = random_walk(seed, row["edge"], radius=config.radius, beta=config.beta, exp_times=config.exp_times)
        row["hr_walk"] = upsample_walk(walk, row["height"], row["width"], per_class=config.per_class)
        peak = walk.max(axis=(1, 2) if config.per_class else None, keepdims=True, initial=0.0)
        row["walk"] = np.divide(walk, peak, out=np.zeros_like(walk), where=peak > 0)


class PoolWalkStage(Stage):
    """Pools `hr_walk` (float32 (K, H, W)) within `regions_NAME`, which come as the PNG bytes that pass 1 stored.

    `walk`, the strided map that is stored, stays as it walked.

    Args:
        sources: names of the region sources.
    """

    name = "pool_walk"

    def __init__(self, sources: Sequence[str]) -> None:
        self.sources = tuple(sources)
        self.reads = ("hr_walk", *columns("regions", sources))
        self.adds = ("hr_walk", *columns("regions", sources), *columns("components", sources))

    def process(self, row: Row) -> None:
        """Pool one image's walked map."""
        for source in self.sources:
            row[f"regions_{source}"] = decode_grey(row[f"regions_{source}"])
        regions = [components_of(row, source) for source in self.sources]
        row["hr_walk"] = pool_hr_walk(row["hr_walk"], regions)


class PseudoLabelStage(Stage):
    """Adds `pseudo_label` (uint8 (H, W) class ids) and its scores."""

    name = "pseudo_label"
    reads = ("image", "keys", "hr_walk")
    adds = ("pseudo_label", "crf_change", "walk_margin", "foreground_share")

    def __init__(self, config: PseudoLabelConfig, crf_engine: CrfEngine = "native") -> None:
        self.config = config
        self.crf = LabelCrf(**config.crf.model_dump(), engine=crf_engine)

    def process(self, row: Row) -> None:
        """Label one image."""
        keys = np.asarray(row["keys"], dtype=np.int32)
        label, before = pseudo_label(row["image"], row["hr_walk"], keys, threshold=self.config.threshold, crf=self.crf)
        row["pseudo_label"] = label
        row["crf_change"] = crf_change(before, label)
        row["walk_margin"] = cam_margin(row["hr_walk"], threshold=self.config.threshold)
        row["foreground_share"] = foreground_share(label)
