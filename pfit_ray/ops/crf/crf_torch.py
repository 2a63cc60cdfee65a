"""The dense CRF in torch, for several images of one shape at once and for GPUs."""

import numpy as np
import torch
from torch import Tensor

from pfit_ray.ops.crf.crf import LabelCrf, SoftmaxCrf
from pfit_ray.ops.crf.permutohedral import key_layout, scale_factors

_TINY = 1e-20


def batched_crf(images: Tensor, unaries: Tensor, options: LabelCrf | SoftmaxCrf) -> Tensor:
    """Label distributions after the mean-field steps, as `DenseCrf.infer` gives them for each image.

    On a GPU the order of additions, and with it the last digits, may differ from call to call.

    Args:
        images: uint8 (B, H, W, 3) RGB, on any device.
        unaries: float32 (B, L, H, W) energies (negative log probabilities), on the same device.
        options: widths and weights of the two terms and the number of iterations; the engine does not count.

    Returns:
        Q, float32 (B, L, H, W), which sums to 1 over the labels, within 1e-3 of `DenseCrf.infer`.

    Raises:
        ValueError: when the images are not uint8 (B, H, W, 3), the unaries have another size, or the widths are too
            small for the images.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(f"the CRF needs uint8 (B, H, W, 3) images, not {images.dtype} {tuple(images.shape)}")
    batch, height, width = images.shape[:3]
    if unaries.ndim != 4 or (unaries.shape[0], *unaries.shape[2:]) != (batch, height, width):
        raise ValueError(f"unaries have shape {tuple(unaries.shape)}, images {tuple(images.shape)}")
    n_labels = unaries.shape[1]
    energies = -unaries.float().permute(0, 2, 3, 1).reshape(-1, n_labels)
    q = energies.softmax(dim=1)
    if options.iterations and n_labels > 1:
        rows = torch.arange(height, dtype=torch.float32, device=images.device)
        columns = torch.arange(width, dtype=torch.float32, device=images.device)
        place = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).expand(batch, -1, -1, -1)
        appearance = torch.cat([place / options.bilateral_sxy, images.float() / options.bilateral_srgb], dim=-1)
        smooth = _Term((place / options.gaussian_sxy).reshape(batch, -1, 2), options.gaussian_compat)
        similar = _Term(appearance.reshape(batch, -1, 5), options.bilateral_compat)
        for _ in range(options.iterations):
            q = (energies + smooth.messages(q) + similar.messages(q)).softmax(dim=1)
    return q.reshape(batch, height, width, n_labels).permute(0, 3, 1, 2)


class _Term:
    """A Potts term: the lattice of all images, with the normalisation in its weights; see `ops.permutohedral`."""

    def __init__(self, features: Tensor, compat: float) -> None:
        batch, n, dimensions = features.shape
        self.corners = dimensions + 1
        keys, self.weights, strides = _corners(features)
        points, offsets = torch.unique(keys, return_inverse=True)
        self.size = len(points)
        self.offsets = offsets.reshape(batch * n, self.corners)
        self.neighbours = [_neighbours(points, strides, direction) for direction in range(self.corners)]
        norm = self._filtered(torch.ones(batch * n, 1, device=features.device))
        self.weights = self.weights * (compat / (norm + _TINY)).sqrt()

    def messages(self, q: Tensor) -> Tensor:
        """What the term adds to the energies: (B*N, L)."""
        return self._filtered(q)

    def _filtered(self, given: Tensor) -> Tensor:
        values = given.new_zeros(self.size + 1, given.shape[1])  # the last row stands for absent neighbours
        for corner in range(self.corners):
            values.index_add_(0, self.offsets[:, corner], self.weights[:, corner, None] * given)
        for before, after in self.neighbours:
            blurred = values[:-1] + 0.5 * (values[before] + values[after])
            values = torch.cat([blurred, values[-1:]])
        result = torch.zeros_like(given)
        for corner in range(self.corners):
            result += self.weights[:, corner, None] * values[self.offsets[:, corner]]
        return result / (1 + 2.0 ** (1 - self.corners))


def _corners(features: Tensor) -> tuple[Tensor, Tensor, list[int]]:
    """Keys, int64, and weights, float32, of each feature's simplex, (B*N, D + 1), and the keys' strides."""
    batch, n, dimensions = features.shape
    corners = dimensions + 1
    scaled = features.reshape(-1, dimensions) * torch.from_numpy(scale_factors(dimensions)).to(features.device)
    least, most = (bound.cpu().numpy() for bound in (scaled.amin(dim=0), scaled.amax(dim=0)))
    lows, strides = (array.tolist() for array in key_layout(least, most, batch))
    position = scaled.new_empty(batch * n, corners)
    ahead = torch.zeros_like(scaled[:, 0])
    for i in range(dimensions, 0, -1):
        position[:, i] = ahead - i * scaled[:, i - 1]
        ahead = ahead + scaled[:, i - 1]
    position[:, 0] = ahead
    inverse = float(np.float32(1 / corners))
    cell = (position * inverse).round()
    inside = position - cell * corners
    rank = cell.sum(dim=1, keepdim=True).long().repeat(1, corners)
    for i in range(dimensions):
        for j in range(i + 1, corners):
            lower = inside[:, i] < inside[:, j]
            rank[:, i] += lower
            rank[:, j] += ~lower
    turns = torch.div(rank, corners, rounding_mode="floor")
    rank, cell = rank - turns * corners, cell.long() - turns
    inside = (position - (cell * corners).float()) * inverse
    share = position.new_zeros(batch * n, corners + 1)
    share.scatter_add_(1, dimensions - rank, inside)
    share.scatter_add_(1, corners - rank, -inside)
    share[:, 0] += 1 + share[:, corners]
    image = torch.arange(batch, device=features.device).repeat_interleave(n) * strides[dimensions]
    keys = torch.empty(batch * n, corners, dtype=torch.int64, device=features.device)
    for corner in range(corners):
        key = image
        for i in range(dimensions):
            key = key + (cell[:, i] - (rank[:, i] > dimensions - corner).long() - lows[i]) * strides[i]
        keys[:, corner] = key * corners + corner
    return keys, share[:, :corners], strides


def _neighbours(points: Tensor, strides: list[int], direction: int) -> tuple[Tensor, Tensor]:
    """Of each point, by ascending key, the points one step back and one step on; M where there is none."""
    corners, size = len(strides), len(points)
    taken = strides[direction] * corners if direction < corners - 1 else 0
    everywhere = sum(strides[:-1]) * corners - (corners - 1)
    wanted = points + torch.where(points % corners == corners - 1, everywhere, 1) - taken
    on = torch.searchsorted(points, wanted).clamp_(max=size - 1)
    on[points[on] != wanted] = size
    back = torch.full_like(on, size)
    found = on < size
    back[on[found]] = torch.nonzero(found).squeeze(1)
    return back, on
