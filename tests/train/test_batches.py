from pathlib import Path

import numpy as np
import pytest
import torch

from pfit_ray.config.training import TrainingConfig
from pfit_ray.train.batches import EpochOrder, load_batches, steps_per_epoch
from pfit_ray.train.examples import Examples, read_examples


def test_order_drops_the_last_incomplete_batch() -> None:
    order = EpochOrder(7, 3, seed=0, epoch=0)
    assert [len(batch) for batch in order] == [3, 3]
    indices = [index for batch in order for index, _ in batch]
    assert len(set(indices)) == 6
    assert set(indices) <= set(range(7))
    assert {repeat for batch in order for _, repeat in batch} == {0}


def test_order_follows_from_seed_and_epoch() -> None:
    assert list(EpochOrder(50, 5, 0, 0)) == list(EpochOrder(50, 5, 0, 0))
    assert list(EpochOrder(50, 5, 0, 0)) != list(EpochOrder(50, 5, 0, 1))
    assert list(EpochOrder(50, 5, 0, 0)) != list(EpochOrder(50, 5, 1, 0))
    # numpy's generator, so that a training goes on in the order in which it began
    assert EpochOrder(6, 3, 0, 2)[:] == [[(5, 0), (2, 0), (0, 0)], [(1, 0), (4, 0), (3, 0)]]


def test_few_examples_fill_one_batch() -> None:
    ((first, second, third, fourth, fifth),) = EpochOrder(2, 5, seed=0, epoch=0)
    assert {first, second} == {(0, 0), (1, 0)}
    assert {third, fourth} == {(0, 1), (1, 1)}
    assert fifth == (first[0], 2)


@pytest.mark.parametrize(("examples", "batch", "steps"), [(1, 4, 1), (4, 4, 1), (7, 4, 1), (8, 4, 2), (1464, 32, 45)])
def test_steps(examples: int, batch: int, steps: int) -> None:
    assert steps_per_epoch(examples, batch) == steps
    assert len(EpochOrder(examples, batch, 0, 0)) == steps


@pytest.mark.parametrize("size", [1, 2, 3])
def test_ranks_share_the_batches(size: int) -> None:
    whole = EpochOrder(9, 4, 0, 0)
    shares = [EpochOrder(9, 4, 0, 0, rank, size) for rank in range(size)]
    assert [len(share[0]) for share in shares] == {1: [4], 2: [2, 2], 3: [2, 1, 1]}[size]
    for number, batch in enumerate(whole):
        assert [slot for share in shares for slot in share[number]] == batch
    assert [len(share) for share in shares] == [2] * size


@pytest.mark.parametrize("threads", [0, 3])
def test_batches_are_the_items_in_pieces(corpus: Path, threads: int) -> None:
    examples = Examples(
        read_examples(str(corpus / "examples.parquet")),
        TrainingConfig(crop=32, min_side=24, max_side=48),
        lambda keys, label: label,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        seed=0,
        max_pixels=10**6,
        with_labels=True,
    )
    batches = [[(3, 0), (0, 0), (0, 1)], [(1, 0), (2, 0), (4, 0)]]
    loaded = list(load_batches(examples, batches, 7, accumulate=2, threads=threads))
    assert [[len(images) for images, *_ in batch.micro_batches] for batch in loaded] == [[2, 1], [2, 1]]
    for batch, slots in zip(loaded, batches, strict=True):
        expected = [examples.item(index, 7, repeat) for index, repeat in slots]
        images = torch.cat([images for images, *_ in batch.micro_batches])
        targets = torch.cat([targets for _, targets, _ in batch.micro_batches])
        np.testing.assert_array_equal(images.numpy(), np.stack([example.image for example in expected]))
        np.testing.assert_array_equal(targets.numpy(), np.stack([example.target for example in expected]))
        assert batch.skipped == []
        assert batch.waited >= 0
