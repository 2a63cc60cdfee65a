"""Which images a training learns from, where it does not take all."""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfit_ray.config.training import TrainingConfig
from pfit_ray.constants import Row


def sample(rows: Iterable[Row], training: TrainingConfig, seed: int) -> NDArray[np.bool_]:
    """Which rows are in the sample. It depends on their ids, class ids and scores, and not on their order.

    Memory holds some 20 bytes for each row and class id.

    Args:
        rows: `image_id`, `keys`, and `score` where the sample goes by it.
        training: see its fields `sample`, `sample_by` and `sample_balance`.
        seed: of the run; another one takes other images where chance decides.

    Returns:
        bool (N,).
    """
    chance: list[int] = []
    scores: list[float] = []
    keys: list[int] = []
    counts: list[int] = []
    for row in rows:
        digest = hashlib.blake2b(f"{seed} {row['image_id']}".encode(), digest_size=8).digest()
        chance.append(int.from_bytes(digest))
        scores.append(row["score"] if training.sample_by == "score" else 0.0)
        keys.extend(row["keys"] or (0,))
        counts.append(len(row["keys"]) or 1)
    images, wanted = len(chance), training.sample or 1.0
    size = min(images, max(1, round(wanted * images)) if wanted < 1 else round(wanted))
    last = np.nan_to_num(np.array(scores, np.float64), nan=-np.inf)
    order = np.lexsort((np.array(chance, np.uint64), -last))
    if training.sample_balance:
        order = _in_turn(order, np.array(keys, np.int64), np.array(counts, np.int64))
    chosen = np.zeros(images, bool)
    chosen[order[:size]] = True
    return chosen


def _in_turn(order: NDArray[Any], keys: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[Any]:
    """The first image of each class, then the second of each class and so on; an image comes at its earliest turn.

    Args:
        order: (N,) images, the best first.
        keys: (K,) class ids of all images, one image after the other.
        counts: (N,) how many of them each image has.
    """
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    image = np.repeat(np.arange(len(order)), counts)
    pairs = np.lexsort((rank[image], keys))
    starts = np.flatnonzero(np.diff(keys[pairs], prepend=-1))
    places = np.arange(len(pairs)) - np.repeat(starts, np.diff(starts, append=len(pairs)))
    turn = np.full(len(order), len(pairs), np.int64)
    np.minimum.at(turn, image[pairs], places)
    return np.lexsort((rank, turn))
