"""The order of examples in an epoch, and a loader that keeps it."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import overload

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


class EpochOrder(Sequence[list[Slot]]):
    """One worker's share of the batches of an epoch: a random order of all examples without the last incomplete batch.

    Fewer examples than a batch are repeated until they fill it. A worker takes consecutive slots of each batch, and the
    shares differ by one slot at most. Memory holds 8 bytes for each example.

    Args:
        examples: their number.
        batch_size: slots of a batch, over all workers.
        seed: of the run.
        epoch: 0, 1, ...
        rank: this worker among all.
        size: number of workers.
    """

    def __init__(self, examples: int, batch_size: int, seed: int, epoch: int, rank: int = 0, size: int = 1) -> None:
        rng = np.random.default_rng(np.random.SeedSequence([seed, epoch]))
        self._order: NDArray[np.int64] = rng.permutation(examples)
        self._batch_size = batch_size
        slots, longer = divmod(batch_size, size)
        self._first = rank * slots + min(rank, longer)
        self._slots = slots + (rank < longer)

    def __len__(self) -> int:
        return steps_per_epoch(len(self._order), self._batch_size)

    @overload
    def __getitem__(self, number: int) -> list[Slot]: ...
    @overload
    def __getitem__(self, number: slice) -> list[list[Slot]]: ...
    def __getitem__(self, number: int | slice) -> list[Slot] | list[list[Slot]]:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        start = range(len(self))[number] * self._batch_size + self._first
        examples = len(self._order)
        positions = range(start, start + self._slots)
        return [(int(self._order[position % examples]), position // examples) for position in positions]


def load_batches(
    examples: Examples,
    batches: Sequence[list[Slot]],
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
    slots = chain.from_iterable(batches)
    ahead = max(1, len(batches[0])) + 2 * threads
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
