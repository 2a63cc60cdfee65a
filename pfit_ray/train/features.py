"""The features of a backbone that is not trained, kept in memory for the views that come again."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from pfit_ray.train.examples import View


class FeatureCache:
    """What a frozen backbone sees in each view of an image, computed once as far as memory allows.

    Each image passes alone. Its features therefore do not depend on the batch that it came in, and a training that was
    stopped, whose features are computed anew, ends with the same weights.

    Args:
        network: it has `features` and `head`.
        limit: bytes of the features that are kept; those of further views are computed whenever they come.
    """

    def __init__(self, network: nn.Module, limit: int) -> None:
        self.network = cast(Any, network)
        self.left = limit
        self.known: dict[View, list[Tensor]] = {}

    def batch(self, images: Tensor, views: list[View]) -> list[Tensor]:
        """Features (B, C, h, w) of some levels, from the normalised images (B, 3, H, W) of the views."""
        levels = [self._one(image[None], view) for image, view in zip(images, views, strict=True)]
        return [torch.cat(level) for level in zip(*levels, strict=True)]

    def _one(self, image: Tensor, view: View) -> list[Tensor]:
        known = self.known.get(view)
        if known is None:
            known = self.network.features(image)
            size = sum(level.numel() * level.element_size() for level in known)
            if size <= self.left:
                self.left -= size
                self.known[view] = known
        return known
