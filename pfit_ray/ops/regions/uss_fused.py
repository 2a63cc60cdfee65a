"""Unsupervised segmentation on CPUs: the CNN of `uss` with its layers fused, several times as fast as torch's.

torch runs each layer over the whole image, so its maps of 64 channels pass through main memory some thirty times an
iteration. Here, each convolution normalises its input on the way in and measures its output on the way out. A bias
before a batch normalisation has no effect, so there is none.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pfit_ray.ops.regions import uss_passes
from pfit_ray.ops.regions.uss_kernels import TILE
from pfit_ray.ops.regions.uss_passes import Block, Norm
from pfit_ray.ops.regions.uss_vote import PUBLISHED, Regions, UssOptions, check_sizes, merge_by_votes

ROWS = 16
"""Rows of a block. Sums are taken by block, so this number decides the rounding; the number of threads does not."""
EPSILON = 1e-5
"""What batch normalisation adds to the variance."""

FirstWeights = list[tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]]
"""Of each layer: weight of the convolution, scale and shift of the batch normalisation behind it."""

Each = Callable[..., None]
"""Calls a pass for every block, with the given arguments and, where there are any, that block's own sums."""


def first_weights(options: UssOptions = PUBLISHED) -> FirstWeights:
    """The weights that `pfit_ray.ops.regions.uss.initial_layers` draws.

    Only this function imports torch, for its generator. Workers that are handed these weights need no torch: they start
    fast and stay small.
    """
    from pfit_ray.ops.regions.uss import initial_layers

    drawn = [[tensor.detach().numpy().copy() for tensor in layer] for layer in initial_layers(options)]
    return [(weight, scale, shift) for weight, _, scale, shift in drawn]


def segment_unsupervised_fused(
    image: NDArray[np.uint8],
    superpixels: NDArray[np.integer],
    options: UssOptions = PUBLISHED,
    *,
    threads: int = 1,
    first: FirstWeights | None = None,
) -> Regions:
    """Merge superpixels into regions as `segment_unsupervised` does, but for the order of sums.

    Both start from the same weights and take the same steps in float32. Votes that rounding decides can differ, as
    they do there between one thread and two. Here, the number of threads does not change the result.

    Args:
        image: uint8 (H, W, 3).
        superpixels: integers (H, W), 0 or larger.
        options: see `UssOptions`; `hidden` and `n_channels` are multiples of 4.
        threads: CPU threads. They do not change the result.
        first: `first_weights(options)`, where they have been drawn before.

    Returns:
        The regions, as voted in the last iteration.

    Raises:
        ValueError: when the sizes differ or a number of channels is no multiple of 4.
    """
    check_sizes(image, superpixels)
    if options.hidden % 4 or options.n_channels % 4:
        raise ValueError(f"hidden is {options.hidden} and n_channels {options.n_channels}, must be multiples of 4")
    network = FusedNetwork(image, first_weights(options) if first is None else first)
    with each_block(network.blocks, threads) as each:
        return merge_by_votes(
            lambda: network.labels(each),
            lambda voted: network.learn(each, voted, options.learning_rate, options.momentum),
            superpixels,
            options,
        )


class FusedNetwork:
    """The CNN on one image, with its weights and all that lies in memory between its passes.

    Args:
        image: uint8 (H, W, 3).
        first: see `first_weights`; it is not changed.

    Attributes:
        blocks: what the image is cut into.
        weights: float32, of each layer; 3x3 ones are ordered (out, row, in, column).
        scales: float32 (C,), of each layer's batch normalisation.
        shifts: float32 (C,), likewise.
    """

    def __init__(self, image: NDArray[np.uint8], first: FirstWeights) -> None:
        height, width = image.shape[:2]
        self.weights = [np.array(weight.transpose(0, 2, 1, 3), order="C") for weight, _, _ in first]
        self.scales = [scale.copy() for _, scale, _ in first]
        self.shifts = [shift.copy() for _, _, shift in first]
        self._speeds: list[NDArray[np.float32]] = [np.zeros_like(one) for one in self._parameters()]
        pixels = np.ascontiguousarray(image.transpose(0, 2, 1), np.float32) / np.float32(255)
        self._maps: list[NDArray[np.float32]] = [pixels]  # then the plain values of each layer
        self._maps += [np.empty((height, len(scale), width), np.float32) for scale in self.scales]
        self._upper = [np.empty_like(values) for values in self._maps[3:]] * 2  # a layer's serves the next but one
        bounds = np.linspace(0, width, -(-width // TILE) + 1).astype(int).tolist()
        strips = list(pairwise(bounds))
        self._widths = np.array([right - left for left, right in strips], np.float64)
        self.blocks = [
            Block(top, min(top + ROWS, height), left, right - left, strip)
            for top in range(0, height, ROWS)
            for strip, (left, right) in enumerate(strips)
        ]
        self._norms: list[Norm] = []  # of the image, which passes as it is, and of each layer

    def labels(self, each: Each) -> NDArray[np.uint8]:
        """Run the CNN: uint8 (H, W), each pixel's strongest channel."""
        zero, one = np.zeros(3), np.ones(3)
        self._norms = [_norm(one, zero, zero, one, zero, zero, zero)]
        for index, weight in enumerate(self.weights):
            moments = self._sums(index)
            forward = uss_passes.forward_mix if index % 2 else uss_passes.forward_convolve
            each(forward, self._maps[index], self._norms[index], weight.ravel(), self._maps[index + 1], moments)
            self._norms.append(self._norm(index, moments.astype(np.float64)))
        labels = np.empty(self._maps[0].shape[::2], np.uint8)
        each(uss_passes.strongest_channel, self._maps[4], self._norms[4], labels)
        return labels

    def learn(self, each: Each, voted: NDArray[np.int64], learning_rate: float, momentum: float) -> None:
        """Take one step of SGD towards a vote, after `labels`."""
        for one, speed, gradient in zip(self._parameters(), self._speeds, self.gradients(each, voted), strict=True):
            speed *= np.float32(momentum)
            speed += gradient.reshape(speed.shape)
            one -= np.float32(learning_rate) * speed

    def gradients(self, each: Each, voted: NDArray[np.int64]) -> list[NDArray[np.floating]]:
        """Gradient of the mean cross-entropy of a vote: of the weights, then the scales, then the shifts."""
        weights: list[NDArray[np.floating]] = [np.empty(0)] * 4
        scales, shifts = list(weights), list(weights)
        sums = self._sums(3)
        each(uss_passes.backward_vote, self._maps[4], self._norms[4], voted, self._upper[3], sums)
        for index in (3, 2, 1, 0):
            shifts[index], scales[index] = sums.sum(axis=(0, 1), dtype=np.float64)
            norm = self._backward_norm(index, shifts[index], scales[index])
            parts = np.zeros((len(self.blocks), self.weights[index].size), np.float32)
            mine = (self._upper[index], self._maps[index + 1], norm)
            below = (self._maps[index], self._norms[index])
            if index == 0:
                each(uss_passes.backward_image, *mine, *below, parts=parts)
            else:
                sums = self._sums(index - 1)
                backward = uss_passes.backward_mix if index % 2 else uss_passes.backward_convolve
                each(backward, *mine, self._turned(index), *below, self._upper[index - 1], sums, parts=parts)
            weights[index] = parts.sum(axis=0)
        return weights + scales + shifts

    def _parameters(self) -> list[NDArray[np.float32]]:
        return self.weights + self.scales + self.shifts

    def _sums(self, index: int) -> NDArray[np.float32]:
        """Room for two sums per row, strip and channel."""
        height, channels, _ = self._maps[index + 1].shape
        return np.empty((height, len(self._widths), 2, channels), np.float32)

    def _turned(self, index: int) -> NDArray[np.float32]:
        """The weight with which a layer's gradient is convolved, flat."""
        return np.ascontiguousarray(self.weights[index][:, ::-1, :, ::-1].transpose(2, 1, 0, 3)).ravel()

    def _norm(self, index: int, moments: NDArray[np.float64]) -> Norm:
        """Batch normalisation from means (H, strips, C) and squared deviations from these."""
        size = moments.shape[0] * self._widths.sum()
        shares = self._widths[:, None]
        mean = (moments[:, :, 0] * shares).sum(axis=(0, 1)) / size
        between = ((moments[:, :, 0] - mean) ** 2 * shares).sum(axis=(0, 1))
        inverse = 1 / np.sqrt((moments[:, :, 1].sum(axis=(0, 1)) + between) / size + EPSILON)
        scale = self.scales[index] * inverse
        unknown = np.zeros_like(mean)
        return _norm(scale, self.shifts[index] - mean * scale, mean, inverse, unknown, unknown, unknown)

    def _backward_norm(self, index: int, total: NDArray[np.floating], product: NDArray[np.floating]) -> Norm:
        norm = self._norms[index + 1]
        scale, mean, inverse = (part.astype(np.float64) for part in (norm.scale, norm.mean, norm.inverse))
        size = self._maps[0].shape[0] * self._widths.sum()
        on_value = -scale * inverse * product / size
        return _norm(*norm[:4], scale, on_value, -scale * total / size - on_value * mean)


def _norm(*parts: NDArray[np.floating]) -> Norm:
    return Norm(*(part.astype(np.float32) for part in parts))


@contextmanager
def each_block(blocks: Sequence[Block], threads: int) -> Iterator[Each]:
    """Yield what calls a pass for every block, on some threads.

    Args:
        blocks: the blocks.
        threads: with 1, the caller's own thread does all.
    """
    with ThreadPoolExecutor(threads) as pool:

        def each(action: Callable[..., None], *arguments: object, parts: NDArray[np.float32] | None = None) -> None:
            own = [()] * len(blocks) if parts is None else [(part,) for part in parts]
            spread = map if threads == 1 else pool.map
            for _ in spread(lambda block, part: action(*arguments, *part, block), blocks, own):
                pass

        yield each
