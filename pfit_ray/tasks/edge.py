"""Stage: AffinityNet's boundary probability."""

import torch
from torch.nn import functional as F

from pfit_ray.config.stages import WalkConfig
from pfit_ray.nets.backbones import normalisation
from pfit_ray.ops.walk import merge_edge_logits
from pfit_ray.schema import Row
from pfit_ray.tasks.base import OUTPUT_STRIDE, Stage, require_finite
from pfit_ray.tasks.device import autocast, normalised_batch, pick_device
from pfit_ray.tasks.networks import load_network

PUBLISHED_CANVAS = 512


class EdgeStage(Stage):
    """Adds `edge` (float32 (h, w) in [0, 1]) at stride 4.

    The image is padded on its right and bottom to a multiple of the network's stride. The published
    programs pad to 512 x 512, which counts because GroupNorm averages over the padding, and mirror the image
    before the padding, so that the two maps do not lie on each other; the clean way mirrors the padded image.

    Args:
        weights_url: the trained AffinityNet.
        config: precision.
        reference: the published padding and order.
    """

    name = "edge"

    def __init__(self, weights_url: str, config: WalkConfig, reference: bool) -> None:
        self.weights_url = weights_url
        self.config = config
        self.reference = reference

    def setup(self) -> None:
        """Load AffinityNet."""
        self.device = pick_device()
        self.network = load_network(self.weights_url).to(self.device)
        self.mean, self.std = normalisation(self.network.get_submodule("backbone"))

    def process(self, row: Row) -> None:
        """Compute one image's edges."""
        height, width = row["image"].shape[:2]
        canvas = [
            max(side + -side % OUTPUT_STRIDE, PUBLISHED_CANVAS if self.reference else 0) for side in (height, width)
        ]
        padding = (0, canvas[1] - width, 0, canvas[0] - height)
        batch = normalised_batch(row["image"], self.mean, self.std, self.device)
        if self.reference:
            both = F.pad(torch.cat([batch, batch.flip(-1)]), padding)
        else:
            padded = F.pad(batch, padding)
            both = torch.cat([padded, padded.flip(-1)])
        with torch.inference_mode(), autocast(self.device, self.config.precision):
            logits = self.network(both).float().cpu().numpy()
        require_finite(logits, "the edge map")
        row["edge"] = merge_edge_logits(logits[:, 0], height, width, flip_after_crop=self.reference)
