from collections.abc import Sequence

import numpy as np
import pytest
import torch

from pfit_ray.constants import OK, Row
from pfit_ray.errors import RowError
from pfit_ray.ops.device import pick_device
from pfit_ray.tasks.base import run_stages
from pfit_ray.tasks.network_stage import NetworkStage, autocast, by_image, normalised_batch, with_mirrors


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
        ("out_of_memory", "the GPU has too little memory for this image of 3 x 2 pixels alone")
    }


def test_one_image() -> None:
    (row,) = rows(9)
    Brightness().process(row)
    assert row["red"] == 9
    with pytest.raises(RowError, match="seven"):
        Brightness().process(rows(7)[0])


CPU = torch.device("cpu")


def test_device_is_the_gpu_where_there_is_one() -> None:
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_normalised_batch() -> None:
    image = np.array([[[0, 51, 255], [255, 102, 0]]], dtype=np.uint8)
    batch = normalised_batch(np.stack([image, image[:, ::-1]]), (0.0, 0.2, 0.5), (1.0, 0.1, 0.5), CPU)
    assert batch.dtype == torch.float32
    expected = torch.tensor([[[0.0, 1.0]], [[0.0, 2.0]], [[1.0, -1.0]]])
    torch.testing.assert_close(batch, torch.stack([expected, expected.flip(-1)]))


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 7, 5), (1, 256, 3)])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_normalised_values_are_those_of_the_formula(shape: tuple[int, int, int], device: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = ((images / 255.0 - mean) / std).astype(np.float32).transpose(0, 3, 1, 2)
    batch = normalised_batch(images, mean, std, torch.device(device))
    assert (batch.shape, batch.dtype) == (expected.shape, torch.float32)
    if device == "cpu":
        np.testing.assert_array_equal(batch.numpy(), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_normalises_to_the_same_values() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 9, 11, 3), dtype=np.uint8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    there = normalised_batch(images, mean, std, torch.device("cuda"))
    assert torch.equal(there.cpu(), normalised_batch(images, mean, std, CPU))


def test_mirrors_follow_the_images_and_come_back_to_them() -> None:
    batch = torch.arange(12.0).reshape(2, 3, 1, 2)
    both = with_mirrors(batch, True)
    assert both[:, :, 0].tolist() == [
        [[0, 1], [2, 3], [4, 5]],
        [[6, 7], [8, 9], [10, 11]],
        [[1, 0], [3, 2], [5, 4]],
        [[7, 6], [9, 8], [11, 10]],
    ]
    pairs = by_image(both, 2)
    assert pairs.shape == (2, 2, 3, 1, 2)
    assert pairs[1, :, 0, 0].tolist() == [[6, 7], [7, 6]]
    assert with_mirrors(batch, False) is batch
    assert by_image(batch, 2).shape == (2, 1, 3, 1, 2)


def test_precision() -> None:
    layer = torch.nn.Linear(2, 2)
    with torch.inference_mode(), autocast(CPU, "bfloat16"):
        assert layer(torch.ones(1, 2)).dtype == torch.bfloat16
    with torch.inference_mode(), autocast(CPU, "float32"):
        assert layer(torch.ones(1, 2)).dtype == torch.float32
