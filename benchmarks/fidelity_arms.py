"""The arms of the fidelity benchmark: what each changes, and the arm it starts from."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from pfit_ray.config.stages import FitConfig
from pfit_ray.constants import Row
from pfit_ray.ops.cam.reference_fit import reference_fit_masks
from pfit_ray.ops.regions.reference_perimeter import canny_edges, jpeg_round_trip, region_picture
from pfit_ray.ops.regions.region_maps import perimeter_map
from pfit_ray.tasks.edge import PUBLISHED_CANVAS, EdgeStage
from pfit_ray.tasks.network_stage import by_image, normalised_batch, with_mirrors

FIT_PARTS = frozenset({"jpeg", "canny", "unclipped", "border"})


@dataclass(frozen=True)
class SeedArm:
    """One way through pass 1: how hr_cam is sized, what the regions see, what the fit does as published."""

    start: str = "lossless"
    crop: bool = False
    regions: str = "lossless"
    fit: frozenset[str] = frozenset()


@dataclass(frozen=True)
class WalkArm:
    """One way through pass 2."""

    start: str = "lossless"
    edge: str = "lossless"
    per_class: bool = False
    seed: str = "cam"
    dtype: str = "float32"


SEED_ARMS = {
    "lossless": SeedArm(),
    "hr_cam cropped": SeedArm(crop=True),
    "regions by torch's CNN": SeedArm(regions="torch"),
    "regions of BGR": SeedArm("regions by torch's CNN", regions="bgr"),
    "regions of BGR on two threads": SeedArm("regions of BGR", regions="reference"),
    "JPEG of regions and perimeters": SeedArm(fit=frozenset({"jpeg"})),
    "Canny": SeedArm(fit=frozenset({"canny"})),
    "quickshift mask not clipped": SeedArm(fit=frozenset({"unclipped"})),
    "last row and column no seeds": SeedArm(fit=frozenset({"border"})),
    "fit reference": SeedArm(fit=FIT_PARTS),
    "all reference": SeedArm(crop=True, regions="reference", fit=FIT_PARTS),
}
WALK_ARMS = {
    "lossless": WalkArm(),
    "edge on 512 x 512, mirrored after the crop": WalkArm(edge="reference"),
    "edge on 512 x 512": WalkArm(edge="canvas"),
    "each class with its own maximum": WalkArm(per_class=True),
    "all reference": WalkArm(edge="reference"),
    "CAM stored as float16": WalkArm(dtype="float16"),
    "walk of the combined CAM": WalkArm(seed="combined lossless"),
    "the same, all reference": WalkArm("walk of the combined CAM", "reference", seed="combined all reference"),
}
STARTS = {
    **{name: arm.start for arms in (SEED_ARMS, WALK_ARMS) for name, arm in arms.items()},
    **{"CAM alone": "lossless", "CAM alone, reference": "all reference"},
    **{"float32": "float32", "float16": "float32"},
    **{"padded": "padded", "not padded": "padded", "mean of the logits": "padded"},
}
"""Which arm each is compared with; an arm that stands alone starts from itself."""


def partial_fit_masks(row: Row, source: str, fit: FitConfig, parts: frozenset[str]) -> np.ndarray:
    """PerimeterFit masks bool (K, H, W) with some of the published parts, by the published flood fill.

    Without `jpeg` regions have flat colours, so that a fill takes a connected region. Without `border` the
    picture gets a black row and column, which no fill enters, so that the true last ones hold seeds.

    Args:
        row: with the regions of the source and `hr_cam`.
        source: slic or quickshift.
        fit: the numbers of the fit.
        parts: a subset of `FIT_PARTS`; none gives the masks of fidelity lossless, all those of reference.
    """
    numbers, slic = fit.published, source == "slic"
    picture = region_picture(row[f"regions_{source}"], seed=numbers.colour_seed)
    picture = jpeg_round_trip(picture) if "jpeg" in parts else picture
    lines = perimeter_map(row[f"regions_{source}"]) * np.uint8(255)
    canny = canny_edges(picture, low=numbers.canny_low, high=numbers.canny_high, blur=numbers.blur)
    edges = canny if "canny" in parts else lines
    edges = jpeg_round_trip(edges) if "jpeg" in parts else edges
    height, width = edges.shape
    margin = (0, 0) if "border" in parts else (0, 1)
    masks = reference_fit_masks(
        np.pad(picture, (margin, margin, (0, 0))),
        np.pad(edges, (margin, margin)),
        np.pad(row["hr_cam"], ((0, 0), margin, margin)),
        cam_threshold=fit.slic_cam_threshold if slic else fit.quickshift_cam_threshold,
        edge_threshold=numbers.slic_edge_threshold if slic else numbers.quickshift_edge_threshold,
        clip_to_cam=slic or "unclipped" not in parts,
        tolerance=numbers.tolerance,
    )
    return masks[:, :height, :width]


class CanvasEdgeStage(EdgeStage):
    """Edges on the published canvas, mirrored with its padding, so that both maps lie on each other."""

    def forward(self, images: np.ndarray) -> list[np.ndarray]:
        """Edge logits (2, h', w') of each image, of at most 512 x 512 pixels, and its mirror image."""
        padding = (0, PUBLISHED_CANVAS - images.shape[2], 0, PUBLISHED_CANVAS - images.shape[1])
        batch = F.pad(normalised_batch(images, self.mean, self.std, self.device), padding)
        with torch.inference_mode():
            logits = self.network(with_mirrors(batch, True))[:, 0]
        return list(by_image(logits, len(images)).cpu().numpy())
