"""The slow, obvious form of Ward's clustering of neighbours, and of the features of superpixels."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F


def neighbours(superpixels: np.ndarray) -> set[tuple[int, int]]:
    pairs = set()
    for one, other in ((superpixels[:, :-1], superpixels[:, 1:]), (superpixels[:-1], superpixels[1:])):
        pairs |= {(int(max(a, b)), int(min(a, b))) for a, b in zip(one.ravel(), other.ravel(), strict=True) if a != b}
    return pairs


def merge_superpixels(superpixels: np.ndarray, features: np.ndarray) -> list[tuple[int, int]]:
    """Looks at every pair of neighbours before each step."""
    members = {node: [node] for node in range(len(features))}
    pairs = neighbours(superpixels)
    merges = []
    while pairs:

        def difference(pair: tuple[int, int]) -> tuple[float, int, int]:
            n, m = (len(members[node]) for node in pair)
            a, b = (features[members[node]].mean(axis=0) for node in pair)
            return n * m / (n + m) * float(np.square(a - b).sum()), *pair

        one, other = min(pairs, key=difference)
        node = len(features) + len(merges)
        merges.append((other, one))
        members[node] = members.pop(one) + members.pop(other)
        renamed = {tuple(node if end in (one, other) else end for end in pair) for pair in pairs}
        pairs = {(max(pair), min(pair)) for pair in renamed if pair[0] != pair[1]}
    return merges


def superpixel_features(
    image: np.ndarray, superpixels: np.ndarray, levels: Sequence[np.ndarray], weights: Sequence[float]
) -> np.ndarray:
    """Resizes every map to the image before it averages."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB).transpose(2, 0, 1)
    found = []
    for weight, maps in zip(weights, (lab, *levels), strict=True):
        centred = maps - maps.mean(axis=(1, 2), keepdims=True)
        unit = torch.from_numpy(centred / np.sqrt(np.square(centred).sum(axis=0).mean() + 1e-12))
        large = F.interpolate(unit[None], size=superpixels.shape, mode="bilinear", align_corners=False)[0].numpy()
        means = [large[:, superpixels == one].mean(axis=1) for one in range(int(superpixels.max()) + 1)]
        found.append(weight * np.array(means))
    return np.concatenate([one for one, weight in zip(found, weights, strict=True) if weight], axis=1)
