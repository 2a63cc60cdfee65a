"""Stage: class activation maps at several scales, and image-level labels where none are known."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch

from pfit_ray.config.data import PredictedLabelsConfig
from pfit_ray.config.stages import CamConfig
from pfit_ray.constants import SKIPPED, NetworkEngine, Row, strided_size
from pfit_ray.errors import RowError
from pfit_ray.nets.backbones import features_and_levels, normalisation
from pfit_ray.nets.classifier import CamClassifier
from pfit_ray.nets.engine import with_engine
from pfit_ray.nets.networks import load_network
from pfit_ray.ops.cam.cam import flip_sum, merge_cam_scales, resize_image, scaled_size
from pfit_ray.ops.device import pick_device
from pfit_ray.tasks.base import require_finite
from pfit_ray.tasks.network_stage import (
    NetworkStage,
    autocast,
    by_image,
    limited_size,
    normalised_batch,
    with_mirrors,
)

ScaledMaps = list[np.ndarray]
"""Per scale, class feature maps (1 or 2, C, h, w) of an image and, with flip, of its mirror image."""


Levels = dict[int, np.ndarray]
"""Levels of the feature pyramid, float32 (C, h, w), by their number."""


class CamStage(NetworkStage[tuple[ScaledMaps, np.ndarray, Levels]]):
    """Adds `cam` (float32 (K, h, w)), `cam_maps` (one (K, h_s, w_s) map per scale), `keys` and `key_scores`.

    Where labels are predicted, `label_scores` (C,) says what the classifier thought of each class. Where region sources
    want features, `levels` has them at the scale nearest to 1.

    Args:
        weights_url: the trained classifier.
        config: scales and precision (PuzzleCAM, Jo and Yu 2021, section 3).
        predicted: how labels are predicted for rows whose `keys` is None.
        classes: names of the foreground classes in the order of their ids.
        levels: levels of the feature pyramid that region sources want.
        engine: what computes the network on a CPU.
    """

    name = "cam"
    reads = ("image", "keys")
    adds: Sequence[str] = ("cam", "cam_maps", "keys", "key_scores", "labels_predicted", "label_scores")

    def __init__(
        self,
        weights_url: str,
        config: CamConfig,
        predicted: PredictedLabelsConfig,
        classes: Sequence[str],
        levels: Sequence[int] = (),
        engine: NetworkEngine = "torch",
    ) -> None:
        super().__init__()
        self.weights_url = weights_url
        self.config = config
        self.predicted = predicted
        self.levels = tuple(levels)
        self.engine = engine
        if levels:
            self.adds = (*self.adds, "levels")
        self.thresholds = np.array([predicted.class_thresholds.get(name, predicted.threshold) for name in classes])

    def setup(self) -> None:
        """Load the classifier."""
        self.use(cast(CamClassifier, load_network(self.weights_url)))

    def use(self, network: CamClassifier) -> None:
        """Take a classifier that is in memory."""
        self.device = pick_device()
        self.network = cast(CamClassifier, with_engine(network, self.device, self.engine))
        self.mean, self.std = normalisation(self.network.backbone)

    def forward(self, images: np.ndarray) -> list[tuple[ScaledMaps, np.ndarray, Levels]]:
        """Maps at each scale, scores (C,) and levels of each image."""
        nearest = int(np.argmin([abs(scale - 1.0) for scale in self.config.scales]))
        wanted = [self.levels if index == nearest else () for index in range(len(self.config.scales))]
        by_scale = [self._at_scale(images, *one) for one in zip(self.config.scales, wanted, strict=True)]
        side = self.network.score_side
        if side is None:  # the scale at which the classifier's scores mean most
            scores = by_scale[nearest][1]
        else:
            scores = self._at_scale(images, side / min(images.shape[1:3]))[1]
        levels = by_scale[nearest][2]
        return [
            ([maps[one] for maps, _, _ in by_scale], scores[one], {level: levels[level][one] for level in levels})
            for one in range(len(images))
        ]

    def finish(self, row: Row, output: tuple[ScaledMaps, np.ndarray, Levels]) -> None:
        """Take the maps of the image's classes."""
        maps, scores, levels = output
        for one in (*maps, scores):
            require_finite(one, "the class activation map" if one.ndim > 1 else "the list of class scores")
        row["labels_predicted"] = row["keys"] is None
        row["label_scores"] = [float(score) for score in scores] if row["keys"] is None else None
        if row["keys"] is None:
            row["keys"] = self._predicted_keys(scores)
        keys = np.asarray(row["keys"], dtype=np.int64)
        row["keys"] = [int(key) for key in keys]
        row["key_scores"] = [float(scores[key - 1]) for key in keys]
        row["cam_maps"] = [flip_sum(one)[keys - 1] for one in maps]
        row["cam"] = merge_cam_scales(row["cam_maps"], *strided_size(*row["image"].shape[:2]))
        if levels:
            row["levels"] = levels

    def _at_scale(
        self, images: np.ndarray, scale: float, wanted: Sequence[int] = ()
    ) -> tuple[np.ndarray, np.ndarray, Levels]:
        """Class feature maps (B, 1 or 2, C, h, w) of the images and their mirror images, scores (B, C), and levels."""
        size = limited_size(*scaled_size(images.shape[1], images.shape[2], scale), self.config.max_side)
        scaled = np.stack([resize_image(image, size) for image in images])
        batch = with_mirrors(normalised_batch(scaled, self.mean, self.std, self.device), self.config.flip)
        with torch.inference_mode(), autocast(self.device, self.config.precision):
            if wanted:
                features, pyramid = features_and_levels(self.network.backbone, batch)
                maps, scores = self.network.read(features)
            else:
                pyramid = []
                maps, scores = self.network.maps_and_scores(batch)
        count = len(images)
        levels = {level: pyramid[level][:count].float().cpu().numpy() for level in wanted}
        return by_image(maps.float(), count).cpu().numpy(), scores[:count].float().cpu().numpy(), levels

    def _predicted_keys(self, scores: np.ndarray) -> np.ndarray:
        order = np.argsort(-scores, kind="stable")[: self.predicted.top_k]
        keys = np.sort(order[scores[order] >= self.thresholds[order]]) + 1
        if not len(keys) and self.predicted.empty != "background":
            best = int(scores.argmax())
            raise RowError(
                "no_label" if self.predicted.empty == "fail" else SKIPPED,
                f"no class reaches its threshold; the best, class {best + 1}, has {scores[best]:.3f} "
                f"of {self.thresholds[best]:g}",
            )
        return keys
