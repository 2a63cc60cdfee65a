"""Stage: random walk of the CAM over the affinities."""

import numpy as np

from pfit_ray.config.stages import WalkConfig
from pfit_ray.constants import Row
from pfit_ray.ops.affinity.walk import random_walk, upsample_walk
from pfit_ray.tasks.base import Stage


class WalkStage(Stage):
    """Adds `walk` (float32 (K, h, w)) and `hr_walk` (float32 (K, H, W)), both in [0, 1].

    Args:
        config: the walk's numbers; `seed_cam` is what walks.
    """

    name = "walk"

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
