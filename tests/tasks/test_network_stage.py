from collections.abc import Sequence

import numpy as np
import pytest
import torch

from pfit_ray.constants import OK, Row
from pfit_ray.errors import RowError
from pfit_ray.tasks.base import run_stages
from pfit_ray.tasks.network_stage import NetworkStage


class Brightness(NetworkStage[float]):
    """Adds the first pixel's red; has memory for so many images, cannot see 13, and will not add 7."""

    name = "brightness"

    def __init__(self, memory: int = 100) -> None:
        super().__init__()
        self.memory = memory
        self.seen: list[list[int]] = []

    def forward(self, images: np.ndarray) -> Sequence[float]:
        reds = [int(red) for red in images[:, 0, 0, 0]]
        self.seen.append(reds)
        if len(images) > self.memory:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if 13 in reds:
            raise ValueError("thirteen")
        return reds

    def finish(self, row: Row, output: float) -> None:
        if output == 7:
            raise RowError("non_finite", "seven")
        row["red"] = output


def rows(*reds: int) -> list[Row]:
    return [{"status": OK, "image": np.full((2, 3, 3), red, dtype=np.uint8)} for red in reds]


def test_a_batch_goes_through_the_network_together() -> None:
    stage, batch = Brightness(), rows(1, 2, 3)
    timings = run_stages([stage], batch)
    assert stage.seen == [[1, 2, 3]]
    assert [row["red"] for row in batch] == [1, 2, 3]
    assert timings["brightness"]["images"] == 3


def test_a_row_that_fails_after_the_network_fails_alone() -> None:
    stage, batch = Brightness(), rows(1, 7, 3)
    run_stages([stage], batch)
    assert stage.seen == [[1, 7, 3]]
    assert [row.get("red") for row in batch] == [1, None, 3]
    assert (batch[1]["stage"], batch[1]["reason"], batch[1]["message"]) == ("brightness", "non_finite", "seven")


def test_a_batch_that_fails_in_the_network_is_tried_one_by_one() -> None:
    stage, batch = Brightness(), rows(1, 13, 3)
    run_stages([stage], batch)
    assert stage.seen == [[1, 13, 3], [1], [13], [3]]
    assert [row.get("red") for row in batch] == [1, None, 3]
    assert (batch[1]["reason"], batch[1]["message"]) == ("error", "ValueError: thirteen")


def test_batches_are_halved_until_they_fit_and_the_size_is_remembered() -> None:
    stage, batch = Brightness(memory=2), rows(0, 1, 2, 3, 4)
    run_stages([stage], batch)
    assert stage.seen == [[0, 1, 2, 3, 4], [0, 1, 2], [0, 1], [2], [3, 4]]
    assert [row["red"] for row in batch] == [0, 1, 2, 3, 4]
    stage.seen.clear()
    run_stages([stage], rows(5, 6, 8))
    assert stage.seen == [[5, 6], [8]]


def test_the_size_that_fits_is_that_of_one_shape() -> None:
    stage = Brightness(memory=1)
    run_stages([stage], rows(0, 1))
    stage.seen.clear()
    stage.memory = 2
    larger = [{"status": OK, "image": np.zeros((4, 4, 3), dtype=np.uint8)} for _ in range(2)]
    run_stages([stage], larger)
    assert stage.seen == [[0, 0]]


def test_an_image_that_never_fits_fails() -> None:
    stage, batch = Brightness(memory=0), rows(4, 5)
    run_stages([stage], batch)
    assert stage.seen == [[4, 5], [4], [5]]
    assert {(row["reason"], row["message"]) for row in batch} == {
        ("out_of_memory", "the GPU has not enough memory for this image of 3 x 2 pixels alone")
    }


def test_one_image() -> None:
    (row,) = rows(9)
    Brightness().process(row)
    assert row["red"] == 9
    with pytest.raises(RowError, match="seven"):
        Brightness().process(rows(7)[0])
