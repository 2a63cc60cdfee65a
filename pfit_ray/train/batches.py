"""The order of examples in an epoch, and a loader that keeps it."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pfit_ray.storage.threads import prefetch
from pfit_ray.train.examples import Example, Examples, View

Slot = tuple[int, int]
"""Index of an example, and how often a small table has been repeated before it."""


@dataclass(frozen=True)
class Batch:
    """One worker's share of a batch, in micro-batches that pass through the network one after another."""

    micro_batches: list[tuple[Tensor, Tensor, list[View]]]
    """Images (B, 3, crop, crop), targets (B, ...) and what each image is a view of."""
    skipped: list[tuple[str, str]]
    """Image ids that could not be used, with a message each."""
    waited: float
    """Seconds that the training waited for it."""


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Full batches in an epoch; one where the examples are fewer than a batch, which repeats them."""
    return max(1, examples // batch_size)


def epoch_order(examples: int, batch_size: int, seed: int, epoch: int) -> list[list[Slot]]:
    """The batches of an epoch: a random order of all examples without the last incomplete batch.

    Fewer examples than a batch are repeated until they fill it.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, epoch]))
    order: NDArray[np.int64] = rng.permutation(examples)
    slots = [
        (int(order[position % examples]), position // examples)
        for position in range(steps_per_epoch(examples, batch_size) * batch_size)
    ]
    return [slots[start : start + batch_size] for start in range(0, len(slots), batch_size)]


def rank_share(batch: list[Slot], rank: int, world_size: int) -> list[Slot]:
    """The consecutive slots of a batch that one worker takes; the shares differ by one slot at most."""
    size, longer = divmod(len(batch), world_size)
    start = rank * size + min(rank, longer)
    return batch[start : start + size + (rank < longer)]


def load_batches(
    examples: Examples,
    batches: list[list[Slot]],
    epoch: int,
    *,
    accumulate: int,
    threads: int,
    pin_memory: bool = False,
) -> Iterator[Batch]:
    """Load batches in their order.

    Args:
        examples: the examples.
        batches: this worker's share of each batch.
        epoch: 0, 1, ...
        accumulate: number of micro-batches of each batch.
        threads: threads that decode and augment ahead; with 0 it is done between the batches.
        pin_memory: copy into memory that a GPU reads directly.
    """
    slots = [slot for batch in batches for slot in batch]
    ahead = max((len(batch) for batch in batches), default=1) + 2 * threads
    stream = prefetch(lambda slot: examples.item(slot[0], epoch, slot[1]), slots, threads, ahead)
    for batch in batches:
        began = time.perf_counter()
        loaded = list(islice(stream, len(batch)))
        places = np.array_split(np.arange(len(batch)), accumulate)
        micro_batches = [_stack(loaded, one, pin_memory) for one in places]
        skipped = [skip for example in loaded for skip in example.skipped]
        yield Batch(micro_batches, skipped, time.perf_counter() - began)


def _stack(examples: list[Example], places: NDArray[np.int64], pin_memory: bool) -> tuple[Tensor, Tensor, list[View]]:
    images = torch.from_numpy(np.stack([examples[i].image for i in places]))
    targets = torch.from_numpy(np.stack([examples[i].target for i in places]))
    views = [examples[i].view for i in places]
    return (images.pin_memory(), targets.pin_memory(), views) if pin_memory else (images, targets, views)
