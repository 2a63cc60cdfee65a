import numpy as np
import pytest
import torch
from torch import Tensor

from pfit_ray.config.stages import PredictConfig
from pfit_ray.constants import Row
from pfit_ray.errors import RowError
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.tasks.encode import decompressed_array
from pfit_ray.tasks.predict import PredictStage


class Colours:
    """A network whose three logits are the colours, and which notes what it sees."""

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, x: Tensor) -> Tensor:
        self.seen.append(tuple(x.shape))
        return x * self.factor


def stage(network: object, reference: bool = False, **config: object) -> PredictStage:
    result = PredictStage("unused", PredictConfig.model_validate({"scales": [1.0], **config}), reference)
    vars(result).update(device=torch.device("cpu"), network=network, mean=(0.0,) * 3, std=(1.0,) * 3)
    return result


def probabilities(row: Row) -> np.ndarray:
    return decompressed_array(row["probabilities"])


def test_probabilities_are_the_softmax_of_the_summed_logits() -> None:
    row = {"image": np.array([[[255, 0, 0], [0, 0, 255]]], dtype=np.uint8)}
    stage(Colours()).process(row)
    assert row["label_ids"] == [0, 1, 2]
    assert probabilities(row).dtype == np.float32
    strong, weak = np.exp(2) / (np.exp(2) + 2), 1 / (np.exp(2) + 2)  # image plus mirror image
    np.testing.assert_allclose(probabilities(row), [[[strong, weak]], [[weak, weak]], [[weak, strong]]], rtol=1e-5)


@pytest.mark.parametrize(
    ("reference", "seen"), [(False, [(2, 3, 16, 32), (2, 3, 16, 16)]), (True, [(2, 3, 5, 17), (2, 3, 2, 8)])]
)
def test_scales_and_padding(reference: bool, seen: list[tuple[int, ...]]) -> None:
    network = Colours()
    row = {"image": np.zeros((5, 17, 3), dtype=np.uint8)}
    stage(network, reference, scales=[1.0, 0.5]).process(row)
    assert network.seen == seen
    assert probabilities(row).shape == (3, 5, 17)
    np.testing.assert_allclose(probabilities(row), 1 / 3, rtol=1e-6)


@pytest.mark.parametrize(
    ("reference", "max_side", "size"),
    [(False, 32, (32, 12)), (False, None, (80, 30)), (False, 80, (80, 30)), (True, 32, (80, 30))],
)
def test_large_images_are_shrunk(reference: bool, max_side: int | None, size: tuple[int, int]) -> None:
    network = Colours()
    row = {"image": np.zeros((80, 30, 3), dtype=np.uint8)}
    stage(network, reference, max_side=max_side, scales=[1.0, 2.0], flip=False).process(row)
    assert probabilities(row).shape == (3, *size)
    if reference:
        assert network.seen == [(1, 3, 80, 30), (1, 3, 160, 60)]


def test_a_batch_gives_what_its_images_give_alone(run: RunDirectory, photo: np.ndarray) -> None:
    real = PredictStage(run.weights("deeplab"), PredictConfig(scales=(0.5, 1.0)), reference=False)
    real.setup()
    alone, together = ([{"image": image} for image in (photo, photo[:, ::-1], 255 - photo)] for _ in range(2))
    for row in alone:
        real.process(row)
    assert real.process_batch(together) == [None] * 3
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(probabilities(one), probabilities(other), atol=1e-5)


def test_improbable_labels_are_left_out() -> None:
    row = {"image": np.array([[[0, 0, 255]]], dtype=np.uint8)}
    stage(Colours(10.0), label_floor=0.01, flip=False).process(row)
    assert row["label_ids"] == [0, 2]
    assert probabilities(row).shape == (2, 1, 1)


def test_reference_keeps_all_labels() -> None:
    row = {"image": np.array([[[0, 0, 255]]], dtype=np.uint8)}
    stage(Colours(10.0), True, label_floor=0.01, flip=False).process(row)
    assert row["label_ids"] == [0, 1, 2]


def test_nan_fails_the_row() -> None:
    with pytest.raises(RowError, match="the segmentation holds NaN or infinity"):
        stage(Colours(float("nan"))).process({"image": np.zeros((1, 1, 3), dtype=np.uint8)})


def test_a_trained_deeplab_is_loaded(run: RunDirectory, photo: np.ndarray) -> None:
    real = PredictStage(run.weights("deeplab"), PredictConfig(scales=(0.5, 1.0), label_floor=0.0), reference=False)
    real.setup()
    row = {"image": photo}
    real.process(row)
    assert probabilities(row).shape == (3, 30, 37)
    np.testing.assert_allclose(probabilities(row).sum(axis=0), 1, rtol=1e-5)


def test_what_the_crf_does_not_see_has_no_digits() -> None:
    row = {"image": np.array([[[0, 0, 255], [255, 0, 0]]], dtype=np.uint8)}
    stage(Colours(20.0), label_floor=0.0, flip=False).process(row)
    assert probabilities(row)[:, 0, 0].tolist() == [np.float32(1e-5), np.float32(1e-5), 1.0]


@pytest.mark.parametrize(("reference", "dtype"), [(False, torch.bfloat16), (True, torch.float32)])
def test_reference_is_never_less_precise(reference: bool, dtype: torch.dtype) -> None:
    """A layer under the network shows the type in which autocast lets it run."""

    class Layered(Colours):
        def __call__(self, x: Tensor) -> Tensor:
            assert torch.nn.functional.conv2d(x, torch.ones(1, 3, 1, 1)).dtype == dtype
            return super().__call__(x)

    network = Layered()
    stage(network, reference, precision="bfloat16").process({"image": np.zeros((16, 16, 3), dtype=np.uint8)})
    assert network.seen
