"""Stage: sure and unsure pixels for AffinityNet, from the combined CAM."""

import numpy as np

from pfit_ray.config.stages import AffinityLabelConfig, CombineMode
from pfit_ray.constants import CrfEngine, Row
from pfit_ray.ops.affinity.affinity_label import affinity_label
from pfit_ray.ops.crf.crf import LabelCrf
from pfit_ray.ops.scores.seed_scores import cam_margin, foreground_share
from pfit_ray.tasks.base import Stage


class AffinityLabelStage(Stage):
    """Adds `affinity_label` (uint8 (H, W): class id, 0 sure background, 255 unsure) and its scores.

    Args:
        config: thresholds and CRF.
        crf_engine: what computes the CRF.
        mode: what made the combined CAM; thresholds that the config leaves open follow from it.
    """

    name = "affinity_label"

    def __init__(
        self, config: AffinityLabelConfig, crf_engine: CrfEngine = "native", mode: CombineMode = "fit"
    ) -> None:
        self.fg_threshold, self.bg_threshold = config.thresholds(mode)
        self.crf = LabelCrf(**config.crf.model_dump(), engine=crf_engine)

    def process(self, row: Row) -> None:
        """Label one image."""
        keys = np.asarray(row["keys"], dtype=np.int32)
        row["affinity_label"] = affinity_label(
            row["image"],
            row["combined_hr_cam"],
            keys,
            fg_threshold=self.fg_threshold,
            bg_threshold=self.bg_threshold,
            crf=self.crf,
        )
        row["cam_margin"] = cam_margin(row["hr_cam"], threshold=self.bg_threshold)
        row["foreground_share"] = foreground_share(row["affinity_label"])
