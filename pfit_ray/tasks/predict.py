"""Stage: class probabilities of DeepLabv3+ at several scales."""

import torch
from torch import Tensor
from torch.nn import functional as F

from pfit_ray.config.stages import PredictConfig
from pfit_ray.nets.backbones import normalisation
from pfit_ray.ops.cam import resize_image, scaled_size
from pfit_ray.ops.segmentation import drop_rare_labels, merge_logits
from pfit_ray.schema import Row
from pfit_ray.tasks.base import OUTPUT_STRIDE, Stage, require_finite
from pfit_ray.tasks.device import autocast, normalised_batch, pick_device, with_mirror
from pfit_ray.tasks.networks import load_network


class PredictStage(Stage):
    """Adds `probabilities` (float32 (L, H, W)) and `label_ids`, the L label ids that they belong to.

    Args:
        weights_url: the trained DeepLabv3+.
        config: scales, precision and the floor under which labels are dropped.
        pad: pad to a multiple of the network's stride; the published programs do not.
    """

    name = "predict"

    def __init__(self, weights_url: str, config: PredictConfig, pad: bool) -> None:
        self.pad = pad
        self.weights_url = weights_url
        self.config = config

    def setup(self) -> None:
        """Load DeepLabv3+."""
        self.device = pick_device()
        self.network = load_network(self.weights_url).to(self.device)
        self.mean, self.std = normalisation(self.network.get_submodule("backbone"))

    def process(self, row: Row) -> None:
        """Segment one image."""
        image = row["image"]
        height, width = image.shape[:2]
        logits = []
        for scale in self.config.scales:
            scaled = resize_image(image, scaled_size(height, width, scale))
            batch = with_mirror(normalised_batch(scaled, self.mean, self.std, self.device), self.config.flip)
            logits.append(self._logits(batch))
        probabilities = merge_logits(logits, height, width)
        require_finite(probabilities, "the segmentation")
        kept, row["probabilities"] = drop_rare_labels(probabilities, self.config.label_floor)
        row["label_ids"] = [int(label) for label in kept]

    def _logits(self, batch: Tensor) -> Tensor:
        """Logits (1 or 2, L, h, w) of a batch, padded on its right and bottom to a multiple of the stride."""
        height, width = batch.shape[-2:]
        if self.pad:
            batch = F.pad(batch, (0, -width % OUTPUT_STRIDE, 0, -height % OUTPUT_STRIDE))
        with torch.inference_mode(), autocast(self.device, self.config.precision):
            return self.network(batch).float()[..., :height, :width]
