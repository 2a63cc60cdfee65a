"""Stage: the prediction, from class probabilities refined by a dense CRF."""

import numpy as np

from pfit_ray.config.stages import PredictConfig
from pfit_ray.constants import CrfEngine, Row
from pfit_ray.ops.cam.cam import resize_image
from pfit_ray.ops.crf.crf import SoftmaxCrf, softmax_crf
from pfit_ray.ops.regions.segmentation import enlarged_argmax
from pfit_ray.ops.scores.seed_scores import crf_change, foreground_share
from pfit_ray.tasks.base import Stage
from pfit_ray.tasks.encode import decompressed_array


class PredictionStage(Stage):
    """Adds `prediction` (uint8 (H, W) class ids) and its scores, in place of `probabilities` and with `label_ids`.

    Probabilities of a smaller size than the image's (see `predict.max_side`) are refined at that size; the
    labels are those of the refined probabilities enlarged to the image.
    """

    name = "prediction"
    reads = ("image", "probabilities", "label_ids")
    adds = ("prediction", "keys", "margin", "crf_change", "foreground_share")

    def __init__(self, config: PredictConfig, crf_engine: CrfEngine = "native") -> None:
        self.crf = SoftmaxCrf(**config.crf.model_dump(), engine=crf_engine)

    def process(self, row: Row) -> None:
        """Label one image."""
        image, probabilities = row["image"], decompressed_array(row.pop("probabilities"))
        ids = np.asarray(row["label_ids"], dtype=np.uint8)
        size = probabilities.shape[1:]
        before, refined = probabilities.argmax(axis=0), probabilities
        if self.crf.iterations:
            seen = image if size == image.shape[:2] else resize_image(image, size)
            refined = softmax_crf(seen, probabilities, self.crf)
        after = refined.argmax(axis=0)
        label = ids[after if size == image.shape[:2] else enlarged_argmax(refined, *image.shape[:2])]
        row["prediction"] = label
        row["keys"] = [int(key) for key in np.unique(label) if key]
        top = np.sort(probabilities, axis=0)[-2:]
        row["margin"] = float((top[-1] - top[0]).mean()) if len(top) > 1 else 1.0
        row["crf_change"] = crf_change(before, after)
        row["foreground_share"] = foreground_share(label)
