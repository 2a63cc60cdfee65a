"""The dense CRF by the book: lattice points in a dictionary of coordinates, all labels filtered, float64."""

from itertools import product

import numpy as np


def simplex(feature: np.ndarray) -> list[tuple[tuple[int, ...], float]]:
    """Coordinates and barycentric weights of the lattice points around one feature."""
    d = len(feature)
    scales = np.sqrt(2 / 3) * (d + 1) / np.sqrt([(i + 1) * (i + 2) for i in range(d)])
    scaled = np.float64(feature) * scales
    position = np.array([scaled[i:].sum() - (i * scaled[i - 1] if i else 0) for i in range(d + 1)])
    nearest = np.rint(position / (d + 1)).astype(int) * (d + 1)
    excess = nearest.sum() // (d + 1)
    inside = position - nearest
    order = np.argsort(-inside, kind="stable")  # from the coordinate that was rounded down furthest
    if excess > 0:
        nearest[order[-excess:]] -= d + 1
    elif excess < 0:
        nearest[order[:-excess]] += d + 1
    inside = position - nearest
    order = np.argsort(-inside, kind="stable")
    steps = inside[order] / (d + 1)
    corners = []
    for corner in range(d + 1):
        point = nearest + corner
        point[order[d + 1 - corner :]] -= d + 1
        if corner == 0:
            weight = 1 - (steps[0] - steps[d])
        else:
            weight = steps[d - corner] - steps[d + 1 - corner]
        corners.append((tuple(int(x) for x in point), float(weight)))
    return corners


class Filter:
    """A Gaussian filter of standard deviation 1 on the features (N, D)."""

    def __init__(self, features: np.ndarray) -> None:
        self.d = features.shape[1]
        self.corners = [simplex(feature) for feature in features]
        self.points = sorted({point for corners in self.corners for point, _ in corners})
        ones = self.apply(np.ones((len(features), 1)))
        self.norm = 1 / np.sqrt(ones + 1e-20)

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Splat, blur, slice."""
        lattice = {point: np.zeros(values.shape[1]) for point in self.points}
        for value, corners in zip(values, self.corners, strict=True):
            for point, weight in corners:
                lattice[point] = lattice[point] + weight * value
        for direction in range(self.d + 1):
            step = np.ones(self.d + 1, int)
            step[direction] -= self.d + 1
            nothing = np.zeros(values.shape[1])
            before = lattice
            lattice = {
                point: value
                + 0.5 * sum(before.get(tuple(int(x) for x in point + sign * step), nothing) for sign in (-1, 1))
                for point, value in before.items()
            }
        sliced = [sum(weight * lattice[point] for point, weight in corners) for corners in self.corners]
        return np.array(sliced) / (1 + 2.0**-self.d)

    def normalised(self, values: np.ndarray) -> np.ndarray:
        """With the symmetric normalisation."""
        return self.norm * self.apply(self.norm * values)


def gaussian_filter(features: np.ndarray, values: np.ndarray) -> np.ndarray:
    """What the lattice approximates: sums over all pairs, normalised symmetrically."""
    kernel = np.exp(-0.5 * np.square(features[:, None] - features[None]).sum(axis=2))
    norm = 1 / np.sqrt(kernel.sum(axis=1, keepdims=True))
    return norm * (kernel @ (norm * values))


def dense_crf(
    image: np.ndarray,
    unary: np.ndarray,
    iterations: int,
    gaussian: tuple[float, float],
    bilateral: tuple[float, float, float],
) -> np.ndarray:
    """Q (L, H, W); `gaussian` is (sxy, compat), `bilateral` (sxy, srgb, compat)."""
    height, width = image.shape[:2]
    place = np.array([(x, y) for y, x in product(range(height), range(width))], dtype=float)
    near = Filter(place / gaussian[0])
    like = Filter(np.hstack([place / bilateral[0], image.reshape(-1, 3) / bilateral[1]]))
    energy = -unary.reshape(len(unary), -1).T.astype(float)
    q = softmax(energy)
    for _ in range(iterations):
        q = softmax(energy + gaussian[1] * near.normalised(q) + bilateral[2] * like.normalised(q))
    return q.T.reshape(unary.shape)


def softmax(energy: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    shares = np.exp(energy - energy.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)
