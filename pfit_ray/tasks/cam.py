"""Stage: class activation maps at several scales, and image-level labels where none are known."""

from typing import cast

import numpy as np
import torch

from pfit_ray.config.data import PredictedLabelsConfig
from pfit_ray.config.stages import CamConfig
from pfit_ray.errors import RowError
from pfit_ray.nets.backbones import normalisation
from pfit_ray.nets.classifier import CamClassifier
from pfit_ray.ops.cam import flip_sum, merge_cam_scales, resize_image, scaled_size
from pfit_ray.schema import Row, strided_size
from pfit_ray.tasks.base import Stage, require_finite
from pfit_ray.tasks.device import autocast, normalised_batch, pick_device, with_mirror
from pfit_ray.tasks.networks import load_network


class CamStage(Stage):
    """Adds `cam` (float32 (K, h, w)), `cam_maps` (one (K, h_s, w_s) map per scale), `keys` and `key_scores`.

    Args:
        weights_url: the trained classifier.
        config: scales and precision (PuzzleCAM, Jo and Yu 2021, section 3).
        predicted: how labels are predicted for rows whose `keys` is None.
    """

    name = "cam"

    def __init__(self, weights_url: str, config: CamConfig, predicted: PredictedLabelsConfig) -> None:
        self.weights_url = weights_url
        self.config = config
        self.predicted = predicted

    def setup(self) -> None:
        """Load the classifier."""
        self.device = pick_device()
        self.network = cast(CamClassifier, load_network(self.weights_url)).to(self.device)
        self.mean, self.std = normalisation(self.network.backbone)

    def process(self, row: Row) -> None:
        """Compute one image's CAM."""
        image = row["image"]
        height, width = image.shape[:2]
        forward = [self._forward(image, scale) for scale in self.config.scales]
        maps = [one for one, _ in forward]
        scores = self._scores(image, [one for _, one in forward])
        row["labels_predicted"] = row["keys"] is None
        if row["keys"] is None:
            row["keys"] = self._predicted_keys(scores)
        keys = np.asarray(row["keys"], dtype=np.int64)
        row["keys"] = [int(key) for key in keys]
        row["key_scores"] = [float(scores[key - 1]) for key in keys]
        row["cam_maps"] = [flip_sum(one)[keys - 1] for one in maps]
        row["cam"] = merge_cam_scales(row["cam_maps"], *strided_size(height, width))

    def _forward(self, image: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
        """Feature maps (1 or 2, C, h, w) of the image and its mirror, and scores (C,), at one scale."""
        size = scaled_size(image.shape[0], image.shape[1], scale)
        longest = self.config.max_side
        if longest is not None and max(size) > longest:
            size = scaled_size(*size, longest / max(size))
        batch = normalised_batch(resize_image(image, size), self.mean, self.std, self.device)
        with torch.inference_mode(), autocast(self.device, self.config.precision):
            maps, scores = self.network.maps_and_scores(with_mirror(batch, self.config.flip))
        found = maps.float().cpu().numpy()
        require_finite(found, "the class activation map")
        return found, scores[0].float().cpu().numpy()

    def _scores(self, image: np.ndarray, by_scale: list[np.ndarray]) -> np.ndarray:
        """Image-level scores (C,) at the size at which the classifier's scores mean most."""
        side = self.network.score_side
        if side is None:
            nearest = int(np.argmin([abs(scale - 1.0) for scale in self.config.scales]))
            return by_scale[nearest]
        return self._forward(image, side / min(image.shape[:2]))[1]

    def _predicted_keys(self, scores: np.ndarray) -> np.ndarray:
        order = np.argsort(-scores, kind="stable")[: self.predicted.top_k]
        keys = np.sort(order[scores[order] >= self.predicted.threshold]) + 1
        if not len(keys) and self.predicted.empty == "fail":
            raise RowError(
                "no_label",
                f"no class reaches the score {self.predicted.threshold}; the best has {scores.max():.3f}",
            )
        return keys
