import numpy as np
import pytest
import torch
from support.golden import cases, load

from pfit_ray.ops.crf.crf import DenseCrf, LabelCrf, SoftmaxCrf
from pfit_ray.ops.crf.crf_torch import batched_crf


def images_of_blocks(seed: int, batch: int, height: int, width: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (batch, height // 3 + 1, width // 3 + 1, 3), np.uint8)
    return coarse.repeat(3, axis=1).repeat(3, axis=2)[:, :height, :width].copy()


@pytest.mark.parametrize("options", [LabelCrf(), SoftmaxCrf(), LabelCrf(iterations=0)])
@pytest.mark.parametrize(("n_labels", "size"), [(1, (4, 5)), (2, (1, 1)), (3, (1, 9)), (3, (24, 31)), (7, (24, 31))])
def test_each_image_as_alone(options: LabelCrf | SoftmaxCrf, n_labels: int, size: tuple[int, int]) -> None:
    images = images_of_blocks(0, 3, *size)
    unaries = (np.random.default_rng(1).random((3, n_labels, *size)) * 4).astype(np.float32)
    together = batched_crf(torch.from_numpy(images), torch.from_numpy(unaries), options).numpy()
    for q, image, unary in zip(together, images, unaries, strict=True):
        np.testing.assert_allclose(q, DenseCrf(image, n_labels, options).infer(unary), rtol=0, atol=1e-3)


@pytest.mark.parametrize("file", cases("crf_unit/label_*_t10.npz"))
def test_labels_as_published(file) -> None:
    unit = load(file)
    unary = torch.from_numpy(unit["unary"]).reshape(1, -1, *unit["image"].shape[:2])
    q = batched_crf(torch.from_numpy(unit["image"])[None], unary, LabelCrf())[0].numpy()
    np.testing.assert_allclose(q, unit["Q"], rtol=0, atol=1e-3)
    assert (q.argmax(axis=0) == unit["argmax"]).mean() >= 0.999


def test_wrong_input_is_refused() -> None:
    image = torch.zeros(1, 2, 2, 3, dtype=torch.uint8)
    with pytest.raises(ValueError, match="uint8"):
        batched_crf(image.float(), torch.zeros(1, 2, 2, 2), LabelCrf())
    with pytest.raises(ValueError, match="shape"):
        batched_crf(image, torch.zeros(2, 2, 2, 2), LabelCrf())
    with pytest.raises(ValueError, match="too small"):
        batched_crf(
            image + torch.arange(2)[:, None].byte() * 99, torch.zeros(1, 2, 2, 2), LabelCrf(bilateral_srgb=1e-7)
        )
