"""The random walk of two maps over the cells of a photograph, one thread."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from comparison import Comparison, peak_megabytes, photograph, timed, timed_in_turn
from scipy import ndimage

from pfit_ray.ops.affinity.walk import random_walk, transition_matrix
from pfit_ray.ops.affinity.walk_torch import random_walks

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from oracles.walk import dense_walk

NUMBERS = {"radius": 5, "beta": 10.0, "exp_times": 8}
CLOSE = 1e-5
PUBLISHED_SECONDS = 283.0
"""Of the published program for one photograph of 500 x 375 pixels: a dense matrix squared eight times."""
BATCH = 4


def maps_and_edge(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Two smooth maps (2, h, w) and the gradient of a photograph's grey values as an edge map (h, w) in [0, 1]."""
    grey = photograph("coffee", height, width).mean(axis=2)
    slope = ndimage.gaussian_gradient_magnitude(grey, 1.0)
    blurred = ndimage.gaussian_filter(grey, 4.0) / 255
    return np.stack([blurred, 1 - blurred]).astype(np.float32), (slope / slope.max()).astype(np.float32)


def sparse_powers(cam: np.ndarray, edge: np.ndarray) -> np.ndarray:
    """The same steps as products of SciPy's compressed sparse rows with both maps at once, in float64."""
    step = transition_matrix(edge, radius=NUMBERS["radius"], beta=NUMBERS["beta"]).T.tocsr()
    values = (cam * (1.0 - edge.astype(np.float64))).reshape(len(cam), -1).T
    for _ in range(2 ** NUMBERS["exp_times"]):
        values = step @ values
    return values.T.reshape(cam.shape)


def off_by(walk: np.ndarray, oracle: np.ndarray) -> float:
    """Largest relative difference of the values that single precision holds."""
    held = oracle >= 1e-36
    return float(np.max(np.abs(walk[held] / oracle[held] - 1), initial=0.0))


def compare(device: str) -> Iterator[Comparison]:
    """Yield rows for a small grid against the dense oracle, two sizes of photographs, and the batched form."""
    # Before the oracles run: what they free would hide what ours takes.
    peaks = [_peak(94, 125), _peak(188, 250)]
    cam, edge = maps_and_edge(32, 40)
    ours, slow = (timed(call, 1) for call in (lambda: random_walk(cam, edge, **NUMBERS), lambda: _dense(cam, edge)))
    off = off_by(ours.result, slow.result)
    yield Comparison(
        "walk, grid 32 x 40",
        "dense float64",
        slow.seconds,
        ours.seconds,
        None,
        f"within {off:.0e}",
        f"within {CLOSE:g}",
        off <= CLOSE,
    )
    for (height, width, limit), peak in zip(((94, 125, 0.6), (188, 250, 3.0)), peaks, strict=True):
        cam, edge = maps_and_edge(height, width)
        slow, ours = timed_in_turn(
            [
                lambda cam=cam, edge=edge: sparse_powers(cam, edge),
                lambda cam=cam, edge=edge: random_walk(cam, edge, **NUMBERS),
            ],
            repeat=3,
        )
        off = off_by(ours.result, slow.result)
        published = f" (the published program: {PUBLISHED_SECONDS:g} s)" if height == 94 else ""
        yield Comparison(
            f"walk, grid {height} x {width}, 2 classes{published}",
            "scipy csr, float64",
            slow.seconds,
            ours.seconds,
            peak,
            f"within {off:.0e}",
            f"<= {limit:g} s" + (", <= 100 MB" if height == 94 else ""),
            ours.seconds <= limit and off <= CLOSE and (height != 94 or peak is None or peak <= 100),
        )
    cam, edge = maps_and_edge(94, 125)
    cams, edges = (torch.from_numpy(np.stack([one] * BATCH)).to(device) for one in (cam, edge))
    slow, ours = timed_in_turn(
        [
            lambda: np.stack([random_walk(cam, edge, **NUMBERS)] * BATCH),
            lambda: random_walks(cams, edges, **NUMBERS).cpu().numpy(),
        ],
        repeat=3,
    )
    off = off_by(ours.result, slow.result)
    yield Comparison(
        f"walks of a batch of {BATCH} on {device}",
        f"{BATCH} walks on the CPU, one after another",
        slow.seconds * BATCH,
        ours.seconds,
        None,
        f"within {off:.0e}",
        f"within {CLOSE:g}",
        off <= CLOSE,
    )


def _peak(height: int, width: int) -> float | None:
    cam, edge = maps_and_edge(height, width)
    return peak_megabytes(lambda: random_walk(cam, edge, **NUMBERS))


def _dense(cam: np.ndarray, edge: np.ndarray) -> np.ndarray:
    return dense_walk(cam, edge, NUMBERS["radius"], NUMBERS["beta"], NUMBERS["exp_times"])
