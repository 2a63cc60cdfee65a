"""Mean field of the dense CRF: two Gaussian filters and a softmax per step, for all labels of a pixel at once.

The labels' probabilities sum to 1, so the last label is not filtered: its result is that of 1 everywhere, less those of
the others. Channels are the other labels, in whole vectors of four.
"""

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pfit_ray.ops.crf import lanes
from pfit_ray.ops.crf.lanes import LANES
from pfit_ray.ops.crf.permutohedral import Lattice, build_lattice, filtered_ones

_NOWHERE = np.float32(-1e30)
"""Gain of a channel without a label: its probability is 0."""
_TINY = 1e-20
_PAIR_LABELS = LANES // 2 + 1
"""With no more labels than these, the channels of two unaries fit into one vector."""


class PairwiseTerm:
    """A Potts term of the energy with a Gaussian kernel, normalised symmetrically.

    Args:
        features: float32 (N, D) of the pixels, in units of the kernel's widths.
        compat: its weight, >= 0.

    Raises:
        ValueError: when the widths are too small (see `build_lattice`).
    """

    def __init__(self, features: NDArray[np.float32], compat: float) -> None:
        lattice = build_lattice(features)
        # The filter is S B S^T with the weights S: the normalisation on both sides and the term's weight fit into S.
        factors = np.sqrt(compat / (filtered_ones(lattice).astype(np.float64) + _TINY))
        lattice.weights[...] *= factors.astype(np.float32)[:, None]
        self.ones = filtered_ones(lattice)
        """The term's result for 1 everywhere: float32 (N,)."""
        lattice.weights[...] *= np.float32(np.sqrt(lattice.attenuation))
        self.lattice: Lattice = lattice


def mean_field(
    terms: tuple[PairwiseTerm, PairwiseTerm], unaries: Sequence[NDArray[np.float32]], iterations: int
) -> list[NDArray[np.float32]]:
    """Distributions over the labels after the mean-field steps (Kraehenbuehl and Koltun, NIPS 2011, algorithm 1).

    Args:
        terms: the pairwise terms of N pixels.
        unaries: float32 (L, N) energies each, of one shape, L at least 2. Two of up to 3 labels take hardly more
            time than one.
        iterations: steps, 0 or more.

    Returns:
        For each unary float32 (L, N), the same as if it were the only one.
    """
    if len(unaries) != 2 or len(unaries[0]) > _PAIR_LABELS:
        return [_infer(terms, [unary], iterations)[0] for unary in unaries]
    return _infer(terms, unaries, iterations)


def _infer(
    terms: tuple[PairwiseTerm, PairwiseTerm], unaries: Sequence[NDArray[np.float32]], iterations: int
) -> list[NDArray[np.float32]]:
    n_labels, n = unaries[0].shape
    width = LANES // 2 if len(unaries) == 2 else -(-(n_labels - 1) // LANES) * LANES
    channels = width * len(unaries)
    rows = np.full(n * channels, _NOWHERE, np.float32)
    for number, unary in enumerate(unaries):
        _fill(rows, unary, channels, number * width)
    smooth, appearance = terms
    _run(
        rows,
        smooth.ones + appearance.ones,
        channels,
        len(unaries) == 2,
        iterations,
        smooth.lattice,
        appearance.lattice,
    )
    return [_taken(rows, n_labels, channels, number * width) for number in range(len(unaries))]


@njit(cache=True, nogil=True)
def _fill(rows, unary, channels, first):  # type: ignore[no-untyped-def]
    """Write a unary's gains over its last label."""
    n_labels, n = unary.shape
    for p in range(n):
        for label in range(n_labels - 1):
            rows[p * channels + first + label] = unary[n_labels - 1, p] - unary[label, p]


@njit(cache=True, nogil=True)
def _taken(rows, n_labels, channels, first):  # type: ignore[no-untyped-def]
    """Probabilities of all labels, one map for each."""
    n = len(rows) // channels
    q = np.empty((n_labels, n), np.float32)
    for p in range(n):
        rest = np.float32(1)
        for label in range(n_labels - 1):
            value = rows[p * channels + first + label]
            q[label, p] = value
            rest -= value
        q[n_labels - 1, p] = max(rest, np.float32(0))
    return q


@njit(cache=True, nogil=True)
def _run(rows, ones, channels, paired, iterations, smooth, appearance):  # type: ignore[no-untyped-def]
    """All steps; `rows` holds the gains at first, the probabilities at last."""
    smooth_values = np.zeros(smooth.size * channels, np.float32)
    smooth_sums = np.zeros(smooth.size * channels, np.float32)
    values = np.zeros(appearance.size * channels, np.float32)
    sums = np.zeros(appearance.size * channels, np.float32)
    for step in range(iterations + 1):
        if step > 0:
            smooth_values, smooth_sums = smooth_sums, smooth_values
            values, sums = sums, values
            _blur(smooth_values, smooth.chains, smooth.lengths, channels)
            _blur(values, appearance.chains, appearance.lengths, channels)
            smooth_sums[:] = 0
            sums[:] = 0
        _pixels(
            rows,
            ones,
            channels,
            paired,
            step > 0,
            step == iterations,
            smooth.offsets,
            smooth.weights,
            smooth_values,
            smooth_sums,
            appearance.offsets,
            appearance.weights,
            values,
            sums,
        )


@njit(cache=True, nogil=True)
def _blur(values, chains, lengths, channels):  # type: ignore[no-untyped-def]
    """Blur in place, one direction after the other, along the chains of neighbours."""
    half, nothing = lanes.spread(np.float32(0.5)), lanes.spread(np.float32(0))
    for direction in range(len(lengths)):
        for channel in range(0, channels, LANES):
            before = nothing
            value = nothing
            is_first = True
            for k in range(lengths[direction]):
                entry = chains[direction, k]
                at = (entry >> 1) * channels + channel
                if is_first:
                    before, value = nothing, lanes.load(values, at)
                is_first = (entry & 1) != 0
                after = nothing
                if not is_first:
                    after = lanes.load(values, (chains[direction, k + 1] >> 1) * channels + channel)
                lanes.store(values, at, lanes.add_scaled(value, half, lanes.add(before, after)))
                before, value = value, after


@njit(cache=True, nogil=True)
def _pixels(  # type: ignore[no-untyped-def]
    rows,
    ones,
    channels,
    paired,
    has_values,
    is_last,
    smooth_offsets,
    smooth_weights,
    smooth_values,
    smooth_sums,
    offsets,
    weights,
    values,
    sums,
):
    """Take each pixel's messages from the blurred lattices, update its probabilities, and add them to the next."""
    q = np.empty(channels, np.float32)
    nothing, one = lanes.spread(np.float32(0)), lanes.spread(np.float32(1))
    for p in range(len(ones)):
        first = p * channels
        highest, message_sum = nothing, nothing
        for channel in range(0, channels, LANES):
            message = nothing
            if has_values:
                message = _taps(message, smooth_offsets, smooth_weights, smooth_values, p, channels, channel)
                message = _taps(message, offsets, weights, values, p, channels, channel)
                message_sum = lanes.add(message_sum, message)
            lanes.store(q, channel, lanes.add(lanes.load(rows, first + channel), message))
        last = nothing
        if has_values:
            last = lanes.subtract(lanes.spread(ones[p]), _sum_over_labels(message_sum, paired))
        highest = last
        for channel in range(0, channels, LANES):
            highest = lanes.maximum(highest, lanes.load(q, channel))
        highest = lanes.maximum(highest, lanes.swap_neighbours(highest))
        if not paired:
            highest = lanes.maximum(highest, lanes.swap_halves(highest))
        share_sum = nothing
        for channel in range(0, channels, LANES):
            share = lanes.exponential(lanes.subtract(lanes.load(q, channel), highest))
            share_sum = lanes.add(share_sum, share)
            lanes.store(q, channel, share)
        last_share = lanes.exponential(lanes.subtract(last, highest))
        factor = lanes.divide(one, lanes.add(last_share, _sum_over_labels(share_sum, paired)))
        for channel in range(0, channels, LANES):
            share = lanes.multiply(lanes.load(q, channel), factor)
            if is_last:
                lanes.store(rows, first + channel, share)
                continue
            _lay(share, smooth_offsets, smooth_weights, smooth_sums, p, channels, channel)
            _lay(share, offsets, weights, sums, p, channels, channel)


@njit(cache=True, nogil=True)
def _sum_over_labels(value, paired):  # type: ignore[no-untyped-def]
    value = lanes.add(value, lanes.swap_neighbours(value))
    return value if paired else lanes.add(value, lanes.swap_halves(value))


@njit(cache=True, nogil=True)
def _taps(message, offsets, weights, values, p, channels, channel):  # type: ignore[no-untyped-def]
    for corner in range(offsets.shape[1]):
        tap = lanes.load(values, offsets[p, corner] * channels + channel)
        message = lanes.add_scaled(message, lanes.spread(weights[p, corner]), tap)
    return message


@njit(cache=True, nogil=True)
def _lay(share, offsets, weights, sums, p, channels, channel):  # type: ignore[no-untyped-def]
    for corner in range(offsets.shape[1]):
        at = offsets[p, corner] * channels + channel
        lanes.store(sums, at, lanes.add_scaled(lanes.load(sums, at), lanes.spread(weights[p, corner]), share))
