"""Stage: class probabilities of DeepLabv3+ at several scales."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pfit_ray.config.stages import PredictConfig
from pfit_ray.constants import NetworkEngine, Row
from pfit_ray.nets.backbones import normalisation
from pfit_ray.nets.engine import with_engine
from pfit_ray.nets.networks import load_network
from pfit_ray.ops.cam.cam import resize_image, scaled_size
from pfit_ray.ops.crf.crf import UNARY_FLOOR
from pfit_ray.ops.device import pick_device
from pfit_ray.ops.regions.segmentation import drop_rare_labels, merge_logits
from pfit_ray.tasks.base import OUTPUT_STRIDE, require_finite
from pfit_ray.tasks.encode import compressed_array
from pfit_ray.tasks.network_stage import (
    NetworkStage,
    Precision,
    autocast,
    by_image,
    limited_size,
    normalised_batch,
    resized,
    with_mirrors,
)


class PredictStage(NetworkStage[np.ndarray]):
    """Adds `probabilities` (float32 (L, h, w), compressed) and `label_ids`, the L label ids that they belong to.

    Probabilities are at least 1e-5. h and w are the image's height and width, or those to which
    `predict.max_side` shrinks it.

    Args:
        weights_url: the trained DeepLabv3+.
        config: scales, precision, size limit and the floor under which labels are dropped.
        reference: as the published programs, neither pad to a multiple of the network's stride nor shrink, and keep
            all labels.
        engine: what computes the network on a CPU.
    """

    name = "predict"
    reads = ("image",)
    adds = ("probabilities", "label_ids")

    def __init__(
        self, weights_url: str, config: PredictConfig, reference: bool, engine: NetworkEngine = "torch"
    ) -> None:
        super().__init__()
        self.engine = engine
        self.reference = reference
        self.precision: Precision = "float32" if reference else config.precision
        self.weights_url = weights_url
        self.config = config

    def setup(self) -> None:
        """Load DeepLabv3+."""
        self.device = pick_device()
        self.network = with_engine(load_network(self.weights_url), self.device, self.engine)
        self.mean, self.std = normalisation(self.network.get_submodule("backbone"))

    def forward(self, images: np.ndarray) -> list[np.ndarray]:
        """Probabilities (L, h, w) of each image, all labels."""
        longest = None if self.reference else self.config.max_side
        height, width = limited_size(images.shape[1], images.shape[2], longest)
        images = np.stack([resized(image, (height, width)) for image in images])
        return list(merge_logits((self._at_scale(images, scale) for scale in self.config.scales), height, width))

    def finish(self, row: Row, output: np.ndarray) -> None:
        """Leave out the labels that are improbable everywhere."""
        require_finite(output, "the segmentation")
        kept, probabilities = drop_rare_labels(output, 0.0 if self.reference else self.config.label_floor)
        row["label_ids"] = [int(label) for label in kept]
        # Below the floor of the CRF probabilities do not count; without their digits a map shrinks to a twentieth,
        # and the maps of a whole shard lie in memory.
        row["probabilities"] = compressed_array(np.maximum(probabilities, np.float32(UNARY_FLOOR)))

    def _at_scale(self, images: np.ndarray, scale: float) -> Tensor:
        """Logits (B, 1 or 2, L, h, w) of images (B, H, W, 3) and, if asked, of their mirror images."""
        height, width = scaled_size(images.shape[1], images.shape[2], scale)
        scaled = np.stack([resize_image(image, (height, width)) for image in images])
        batch = with_mirrors(normalised_batch(scaled, self.mean, self.std, self.device), self.config.flip)
        if not self.reference:
            batch = F.pad(batch, (0, -width % OUTPUT_STRIDE, 0, -height % OUTPUT_STRIDE))
        with torch.inference_mode(), autocast(self.device, self.precision):
            return by_image(self.network(batch).float()[..., :height, :width], len(images))
