"""Stage: the pseudo label."""

import numpy as np

from pfit_ray.config.stages import PseudoLabelConfig
from pfit_ray.constants import CrfEngine, Row
from pfit_ray.ops.cam.pseudo_label import pseudo_label
from pfit_ray.ops.crf.crf import LabelCrf
from pfit_ray.ops.scores.seed_scores import cam_margin, crf_change, foreground_share
from pfit_ray.tasks.base import Stage


class PseudoLabelStage(Stage):
    """Adds `pseudo_label` (uint8 (H, W) class ids) and its scores."""

    name = "pseudo_label"

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
