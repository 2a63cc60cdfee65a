import numpy as np
import torch

from pfit_ray.tasks.device import autocast, normalised_batch, pick_device, with_mirror

CPU = torch.device("cpu")


def test_device_is_the_gpu_where_there_is_one() -> None:
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_normalised_batch() -> None:
    image = np.array([[[0, 51, 255], [255, 102, 0]]], dtype=np.uint8)
    batch = normalised_batch(image, (0.0, 0.2, 0.5), (1.0, 0.1, 0.5), CPU)
    assert batch.dtype == torch.float32
    torch.testing.assert_close(batch, torch.tensor([[[[0.0, 1.0]], [[0.0, 2.0]], [[1.0, -1.0]]]]))


def test_mirror() -> None:
    batch = torch.arange(6.0).reshape(1, 3, 1, 2)
    both = with_mirror(batch, True)
    assert both[0, :, 0].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert both[1, :, 0].tolist() == [[1, 0], [3, 2], [5, 4]]
    assert with_mirror(batch, False) is batch


def test_precision() -> None:
    layer = torch.nn.Linear(2, 2)
    with torch.inference_mode(), autocast(CPU, "bfloat16"):
        assert layer(torch.ones(1, 2)).dtype == torch.bfloat16
    with torch.inference_mode(), autocast(CPU, "float32"):
        assert layer(torch.ones(1, 2)).dtype == torch.float32
