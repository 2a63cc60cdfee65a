import numpy as np
import pytest
import torch

from pfit_ray.tasks.device import autocast, by_image, normalised_batch, pick_device, with_mirrors

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
