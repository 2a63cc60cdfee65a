"""Stages that turn a CAM into an affinity label: at image size, combined with the regions, thresholded."""

from collections.abc import Sequence

import numpy as np

from pfit_ray.config.stages import AffinityLabelConfig, CombineMode
from pfit_ray.constants import PUBLISHED_SOURCES, CrfEngine, Row
from pfit_ray.ops.cam.cam import merge_hr_cam, resize_maps
from pfit_ray.ops.cam.combine import combine_cam, combine_hr_cam
from pfit_ray.ops.cam.label_maps import affinity_label
from pfit_ray.ops.cam.pool import pool_hr_cam
from pfit_ray.ops.crf.crf import LabelCrf
from pfit_ray.ops.scores.seed_scores import cam_margin, foreground_share
from pfit_ray.tasks.base import Stage, columns
from pfit_ray.tasks.fit import components_of


class HrCamStage(Stage):
    """Adds `hr_cam` (float32 (K, H, W) in [0, 1]) from `cam_maps`.

    Args:
        crop: the published way: resize to a multiple of 16 and crop, instead of resizing to the image.
    """

    name = "hr_cam"
    reads = ("cam_maps", "height", "width")
    adds = ("hr_cam",)

    def __init__(self, crop: bool) -> None:
        self.crop = crop

    def process(self, row: Row) -> None:
        """Merge one image's scales."""
        row["hr_cam"] = merge_hr_cam(row["cam_maps"], row["height"], row["width"], crop=self.crop)


class CombineStage(Stage):
    """Adds `combined_cam` (K, h, w) and `combined_hr_cam` (K, H, W).

    Args:
        mode: none: the CAM as it is, and no score `mask_agreement`; fit: doubled where all PerimeterFit masks agree, in
            [0, 2]; pool: averaged within the connected regions of each source and over the sources, in [0, 1];
            pool_fit: both, in [0, 2].
        sources: names of the region sources.
        rounds: of pooling; see `pfit_ray.ops.cam.pool.pool_hr_cam`.
    """

    name = "combine"

    def __init__(self, mode: CombineMode = "fit", sources: Sequence[str] = PUBLISHED_SOURCES, rounds: int = 1) -> None:
        self.mode = mode
        self.sources = tuple(sources)
        masked, pooled = mode in ("fit", "pool_fit"), mode in ("pool", "pool_fit")
        self.reads = (
            "cam", "hr_cam", *columns("regions", sources if pooled else ()),
            *columns("fit_mask", sources if masked else ()),
        )  # fmt: skip
        self.adds = (
            "combined_cam", "combined_hr_cam", *columns("components", sources if pooled else ()),
            *(("mask_agreement",) if mode == "none" else ()),
        )  # fmt: skip
        self.rounds = rounds

    def process(self, row: Row) -> None:
        """Combine one image's CAM with its regions."""
        if self.mode == "none":
            row["combined_cam"], row["combined_hr_cam"] = row["cam"], row["hr_cam"]
            row["mask_agreement"] = None
            return
        cam, hr_cam = row["cam"], row["hr_cam"]
        if self.mode != "fit":  # the means within regions are known at image size
            hr_cam = pool_hr_cam(hr_cam, [components_of(row, source) for source in self.sources], self.rounds)
            cam = resize_maps(hr_cam, *cam.shape[1:])
        if self.mode != "pool":  # the masks are those of the CAM as it was before it was pooled
            masks = [row[f"fit_mask_{source}"] for source in self.sources]
            cam, hr_cam = combine_cam(cam, masks), combine_hr_cam(hr_cam, masks)
        row["combined_cam"], row["combined_hr_cam"] = cam, hr_cam


class AffinityLabelStage(Stage):
    """Adds `affinity_label` (uint8 (H, W): class id, 0 sure background, 255 unsure) and its scores.

    Args:
        config: thresholds and CRF.
        crf_engine: what computes the CRF.
        mode: what made the combined CAM; thresholds that the config leaves open follow from it.
    """

    name = "affinity_label"
    reads = ("image", "keys", "hr_cam", "combined_hr_cam")
    adds = ("affinity_label", "cam_margin", "foreground_share")

    def __init__(
        self, config: AffinityLabelConfig, crf_engine: CrfEngine = "native", mode: CombineMode = "fit"
    ) -> None:
        self.fg_threshold, self.bg_threshold = config.thresholds(mode)
        self.crf = LabelCrf(**config.crf.model_dump(), engine=crf_engine)

    def process(self, row: Row) -> None:
        """Label one image."""
        keys = np.asarray(row["keys"], dtype=np.int32)
        row["affinity_label"] = affinity_label(
            row["image"],
            row["combined_hr_cam"],
            keys,
            fg_threshold=self.fg_threshold,
            bg_threshold=self.bg_threshold,
            crf=self.crf,
        )
        row["cam_margin"] = cam_margin(row["hr_cam"], threshold=self.bg_threshold)
        row["foreground_share"] = foreground_share(row["affinity_label"])
