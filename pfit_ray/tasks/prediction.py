"""Stage: the predicted label map, refined by a dense CRF."""

import numpy as np

from pfit_ray.config.stages import PredictConfig
from pfit_ray.ops.crf import SoftmaxCrf, softmax_crf
from pfit_ray.ops.seed_scores import crf_change, foreground_share
from pfit_ray.schema import Row
from pfit_ray.tasks.base import Stage


class PredictionStage(Stage):
    """Adds `prediction` (uint8 (H, W) class ids) and its scores from `probabilities` and `label_ids`."""

    name = "prediction"

    def __init__(self, config: PredictConfig) -> None:
        self.crf = SoftmaxCrf(**config.crf.model_dump())

    def process(self, row: Row) -> None:
        """Label one image."""
        probabilities = row["probabilities"]
        ids = np.asarray(row["label_ids"], dtype=np.uint8)
        before = ids[probabilities.argmax(axis=0)]
        label = before
        if self.crf.iterations:
            refined = softmax_crf(row["image"], probabilities, self.crf)
            label = ids[refined.argmax(axis=0)]
        row["prediction"] = label
        row["keys"] = [int(key) for key in np.unique(label) if key]
        top = np.sort(probabilities, axis=0)[-2:]
        row["margin"] = float((top[-1] - top[0]).mean()) if len(top) > 1 else 1.0
        row["crf_change"] = crf_change(before, label)
        row["foreground_share"] = foreground_share(label)
