"""Random walk of class activation maps over the affinities of an edge map (AffinityNet, IRN)."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit

from pfit_ray.constants import CAM_STRIDE, strided_size
from pfit_ray.ops.affinity.path_index import path_offsets
from pfit_ray.ops.cam.cam import resize_maps

# Products of a weight and a value stay above 2.3e-308, the smallest normal double: denormal numbers would
# slow the walk down many times. What is dropped is far below any rounding error.
VANISHING_WEIGHT = 1e-100
VANISHING_VALUE = 1e-200
VANISHING_RESULT = 1e-36
"""Smaller results become 0, so interpolation does not meet denormal single-precision numbers either."""


def merge_edge_logits(
    logits: NDArray[np.floating], height: int, width: int, *, flip_after_crop: bool
) -> NDArray[np.float32]:
    """Boundary probability from the edge logits of a padded image and of its mirror image.

    `flip_after_crop` says what the mirror image was:

    * False: the padded image, mirrored as a whole. Mirrored back as a whole, its logits lie exactly on those
      of the first half if the padded width is a multiple of 4.
    * True, as published: the image mirrored first, then padded on its right. The logits are mirrored back
      after the crop to the grid, which shifts them by up to 3 pixels where W is no multiple of 4.

    Args:
        logits: floats (2, h', w') at stride 4, h' >= ceil(H / 4), w' >= ceil(W / 4).
        height: H, of the image without padding.
        width: W, of the image without padding.
        flip_after_crop: see above.

    Returns:
        float32 (ceil(H / 4), ceil(W / 4)) in [0, 1]: sigmoid of the mean of both logits.

    Raises:
        ValueError: when the logits are not two maps or do not cover the image.
    """
    h, w = strided_size(height, width)
    if logits.ndim != 3 or logits.shape[0] != 2 or logits.shape[1] < h or logits.shape[2] < w:
        raise ValueError(f"edge logits have shape {logits.shape}, a {height} x {width} image needs (2, >= {h}, >= {w})")
    straight, mirrored = np.asarray(logits, dtype=np.float32)
    back = mirrored[:h, :w][:, ::-1] if flip_after_crop else mirrored[:, ::-1][:h, :w]
    return expit(straight[:h, :w] / 2 + back / 2)


def transition_matrix(edge: NDArray[np.floating], *, radius: int, beta: float) -> sparse.dia_array:
    """Transition matrix of the walk: the affinities to the power `beta`, each column divided by its sum.

    The affinity of two cells nearer than `radius` is 1 - the highest edge on the path between them; of a cell
    to itself 1; of others 0 (Ahn and Kwak, CVPR 2018). Each relative position of two cells is one diagonal,
    so the sparse matrix takes one number per cell and neighbour: 69 a cell for radius 5.

    Args:
        edge: floats (h, w) in [0, 1], boundary probabilities.
        radius: cells nearer than this are neighbours; at least 2.
        beta: exponent of the affinities, > 0.

    Returns:
        float64 (h w, h w) with columns that sum to 1; cells in row-major order. Affinities whose
        power is below 1e-100 count as 0.
    """
    h, w = edge.shape
    n = h * w
    edge = np.asarray(edge, dtype=np.float64)
    diagonals = {0: np.ones(n)}
    for path in path_offsets(radius):
        dy, dx = path[0]
        rows, columns, left = h - dy, w - abs(dx), max(-dx, 0)
        if rows <= 0 or columns <= 0:
            continue
        highest = edge[dy:, left + dx : left + dx + columns].copy()
        for y, x in path[1:]:
            np.maximum(highest, edge[y : y + rows, left + x : left + x + columns], out=highest)
        weight = np.zeros((h, w))
        weight[:rows, left : left + columns] = (1.0 - highest) ** beta
        weight[weight < VANISHING_WEIGHT] = 0.0
        by_source, shift = weight.ravel(), dy * w + dx
        # On a narrow grid two positions share a diagonal, though never an entry: hence the sums. A diagonal
        # is stored by column: the destination above the main diagonal, the source below it.
        diagonals.setdefault(shift, np.zeros(n))[shift:] += by_source[: n - shift]
        diagonals.setdefault(-shift, np.zeros(n))[:] += by_source
    columns_first = np.stack(list(diagonals.values()))
    columns_first /= columns_first.sum(axis=0)
    return sparse.dia_array((columns_first, list(diagonals)), shape=(n, n))


def random_walk(
    cam: NDArray[np.floating], edge: NDArray[np.floating], *, radius: int, beta: float, exp_times: int
) -> NDArray[np.float32]:
    """Let the maps walk 2 ** exp_times steps: each step makes a cell the weighted mean of its neighbours.

    The row vector cam * (1 - edge) is multiplied with the transition matrix again and again in double
    precision; no power of the matrix is ever formed. (Ahn and Kwak, CVPR 2018.)

    Args:
        cam: floats (K, h, w), at least 0.
        edge: floats (h, w) in [0, 1], boundary probabilities.
        radius: cells nearer than this are neighbours; at least 2.
        beta: exponent of the affinities, > 0.
        exp_times: the walk takes 2 to this power steps; at least 0.

    Returns:
        float32 (K, h, w), at least 0, not normalised; values below 1e-36 are 0.

    Raises:
        ValueError: when the maps and the edge differ in size.
    """
    if cam.shape[1:] != edge.shape:
        raise ValueError(f"the maps are {cam.shape[1:]}, the edge is {edge.shape}: they must have one size")
    walk = np.empty(cam.shape, dtype=np.float32)
    if len(cam) == 0:
        return walk
    step = transition_matrix(edge, radius=radius, beta=beta).T
    for start, end in zip(cam, walk, strict=True):
        # One class at a time: SciPy multiplies diagonals with one vector five times faster than with columns.
        values = (start.astype(np.float64) * (1.0 - edge.astype(np.float64))).ravel()
        for _ in range(2**exp_times):
            values[values < VANISHING_VALUE] = 0.0
            values = step @ values
        end[:] = np.where(values < VANISHING_RESULT, 0.0, values).reshape(edge.shape)
    return walk


def upsample_walk(walk: NDArray[np.floating], height: int, width: int, *, per_class: bool) -> NDArray[np.float32]:
    """Walked maps at image size, four times larger by bilinear interpolation, with their maximum at 1.

    Args:
        walk: floats (K, ceil(H / 4), ceil(W / 4)), at least 0.
        height: H, of the image.
        width: W, of the image.
        per_class: divide each class by its own maximum, or (False, as published) all classes by the one
            maximum over all of them. Maps that are 0 everywhere stay 0.

    Returns:
        float32 (K, H, W) in [0, 1].

    Raises:
        ValueError: when the maps do not have the stride-4 size of the image.
    """
    grid = strided_size(height, width)
    if walk.shape[1:] != grid:
        raise ValueError(f"the walked maps are {walk.shape[1:]}, a {height} x {width} image needs {grid}")
    if len(walk) == 0:
        return np.empty((0, height, width), dtype=np.float32)
    large = resize_maps(walk, CAM_STRIDE * grid[0], CAM_STRIDE * grid[1])
    cropped = large[:, :height, :width]
    maximum = cropped.max(axis=(1, 2) if per_class else None, keepdims=True)
    maximum[maximum <= 0.0] = 1.0
    return cropped / maximum
