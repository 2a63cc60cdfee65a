"""Regions from the CAM network's features: means of superpixels and Ward's merging, without and with the superpixels.

The network has random weights, on which the time hardly depends. Seconds are CPU seconds.
"""

import time
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from comparison import Comparison, Timed, peak_megabytes, photograph, timed_in_turn
from numpy.typing import NDArray
from scipy.sparse import coo_matrix

from pfit_ray.config.sources import FeaturesConfig, QuickshiftConfig, SlicConfig
from pfit_ray.data.region_sources.features import FeatureRegions
from pfit_ray.nets.backbones import create_backbone, features_and_levels, normalisation
from pfit_ray.ops.regions.region_maps import number_regions
from pfit_ray.ops.regions.superpixel_features import superpixel_features
from pfit_ray.ops.regions.ward import hierarchy, merge_superpixels
from pfit_ray.ops.superpixels.superpixels import quickshift_superpixels, slic_superpixels
from pfit_ray.tasks.network_stage import normalised_batch

MERGING_SECONDS, WHOLE_SECONDS = 0.12, 0.25


def compare(device: str) -> Iterator[Comparison]:
    """Yield a row for features and merging, and one for all that a region source does."""
    image, config = photograph(), FeaturesConfig()
    torch.manual_seed(0)
    backbone = create_backbone("efficientnet_lite0").eval()
    batch = normalised_batch(image[None], *normalisation(backbone), torch.device("cpu"))
    with torch.inference_mode():
        pyramid = features_and_levels(backbone, batch)[1]
    levels = [pyramid[level][0].numpy() for level in config.levels]
    superpixels = [number_regions(make(image)) for make in (slic_superpixels, quickshift_superpixels)]
    weights = (config.colour, *config.levels.values())

    def ours() -> list[NDArray[np.int64]]:
        found = []
        for one in superpixels:
            found += hierarchy(one, superpixel_features(image, one, levels, weights), config.cuts)
        return found

    source = FeatureRegions(SlicConfig().model_dump(), QuickshiftConfig().model_dump())
    slow, fast, whole = timed_in_turn(
        [
            lambda: [_library(image, one, levels) for one in superpixels],
            ours,
            lambda: source.label_maps(image, "image", levels),
        ],
        clock=time.process_time,
    )
    trees = [merge_superpixels(one, superpixel_features(image, one, levels, weights)) for one in superpixels]
    same = np.mean([len(_nodes(one) & _nodes(other)) / len(one) for one, other in zip(trees, slow.result, strict=True)])
    equal = all(map(np.array_equal, fast.result, whole.result))
    count = " and ".join(str(len(one) + 1) for one in trees)
    told = f"{100 * same:.1f} % of the regions of the tree"
    yield _row(f"features and merging of {count} superpixels", slow, fast, told, MERGING_SECONDS, ours)
    yield _row(
        "the same with SLIC and quickshift", slow, whole, "identical" if equal else "different", WHOLE_SECONDS,
        lambda: source.label_maps(image, "image", levels),
    )  # fmt: skip


def _row(name: str, slow: Timed, ours: Timed, equality: str, target: float, call: object) -> Comparison:
    return Comparison(
        name,
        "maps at image size, scikit-learn's ward_tree",
        slow.seconds,
        ours.seconds,
        peak_megabytes(call),  # type: ignore[arg-type]
        equality,
        f"<= {target} s",
        equality != "different" and ours.seconds <= target,
    )


def _library(
    image: NDArray[np.uint8], superpixels: NDArray[np.integer], levels: Sequence[NDArray[np.float32]]
) -> NDArray[np.int64]:
    """The tree (n - 1, 2), of maps that are resized to the image first."""
    from sklearn.cluster import ward_tree

    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB).transpose(2, 0, 1)
    flat, count = superpixels.ravel(), int(superpixels.max()) + 1
    sums = coo_matrix((np.ones(flat.size, np.float32), (flat, np.arange(flat.size))), (count, flat.size)).tocsr()
    parts = []
    for one in (lab, *levels):
        middle = one - one.mean(axis=(1, 2), keepdims=True)
        unit = torch.from_numpy(middle / np.sqrt(np.square(middle).sum(axis=0).mean()))[None]
        large = F.interpolate(unit, size=superpixels.shape, mode="bilinear", align_corners=False)[0]
        parts.append(sums @ large.reshape(len(one), -1).T.numpy() / np.bincount(flat)[:, None])
    pairs = np.concatenate(
        [
            np.stack([superpixels[:, 1:].ravel(), superpixels[:, :-1].ravel()], axis=1),
            np.stack([superpixels[1:].ravel(), superpixels[:-1].ravel()], axis=1),
        ]
    ).astype(np.int64)
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), (count, count))
    merges: NDArray[np.int64] = ward_tree(np.concatenate(parts, axis=1), connectivity=graph + graph.T)[0]
    return merges


def _nodes(merges: NDArray[np.int64]) -> set[frozenset[int]]:
    """The superpixels of each node of a tree."""
    members = [frozenset([one]) for one in range(len(merges) + 1)]
    for one, other in merges:
        members.append(members[one] | members[other])
    return set(members[len(merges) + 1 :])
