"""Stage: AffinityNet's boundary probability."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from pfit_ray.config.stages import WalkConfig
from pfit_ray.constants import NetworkEngine, Row, strided_size
from pfit_ray.nets.backbones import normalisation
from pfit_ray.nets.engine import with_engine
from pfit_ray.nets.networks import load_network
from pfit_ray.ops.affinity.walk import merge_edge_logits
from pfit_ray.ops.cam.cam import resize_maps
from pfit_ray.ops.device import pick_device
from pfit_ray.tasks.base import OUTPUT_STRIDE, require_finite
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

PUBLISHED_CANVAS = 512


class EdgeStage(NetworkStage[np.ndarray]):
    """Adds `edge` (float32 (h, w) in [0, 1]) at stride 4.

    The image is padded on its right and bottom to a multiple of the network's stride. The published
    programs pad to 512 x 512, which counts because GroupNorm averages over the padding, and mirror the image
    before the padding, so that the two maps do not lie on each other; the clean way mirrors the padded image.

    Args:
        weights_url: the trained AffinityNet.
        config: precision, and the size above which the network sees the image shrunk (never with `reference`).
        reference: the published padding and order.
        engine: what computes the network on a CPU.
    """

    name = "edge"
    reads = ("image",)
    adds = ("edge",)

    def __init__(self, weights_url: str, config: WalkConfig, reference: bool, engine: NetworkEngine = "torch") -> None:
        super().__init__()
        self.engine = engine
        self.weights_url = weights_url
        self.longest = None if reference else config.max_side
        self.reference = reference
        self.precision: Precision = "float32" if reference else config.precision

    def setup(self) -> None:
        """Load AffinityNet."""
        self.device = pick_device()
        self.network = with_engine(load_network(self.weights_url), self.device, self.engine)
        self.mean, self.std = normalisation(self.network.get_submodule("backbone"))

    def forward(self, images: np.ndarray) -> Sequence[np.ndarray]:
        """Edge logits (2, h', w') of each image and its mirror image; h' and w' cover at least its grid."""
        size = limited_size(images.shape[1], images.shape[2], self.longest)
        images = np.stack([resized(image, size) for image in images])
        height, width = images.shape[1:3]
        canvas = [
            max(side + -side % OUTPUT_STRIDE, PUBLISHED_CANVAS if self.reference else 0) for side in (height, width)
        ]
        padding = (0, canvas[1] - width, 0, canvas[0] - height)
        batch = normalised_batch(images, self.mean, self.std, self.device)
        if self.reference:
            both = F.pad(with_mirrors(batch, True), padding)
        else:
            both = with_mirrors(F.pad(batch, padding), True)
        with torch.inference_mode(), autocast(self.device, self.precision):
            logits = self.network(both).float()[:, 0]
        return list(by_image(logits, len(images)).cpu().numpy())

    def finish(self, row: Row, output: np.ndarray) -> None:
        """Merge one image's two maps."""
        require_finite(output, "the edge map")
        height, width = row["image"].shape[:2]
        seen = limited_size(height, width, self.longest)
        edge = merge_edge_logits(output, *seen, flip_after_crop=self.reference)
        row["edge"] = edge if seen == (height, width) else resize_maps(edge[None], *strided_size(height, width))[0]
