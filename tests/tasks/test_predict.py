import numpy as np
import pytest
import torch
from torch import Tensor

from pfit_ray.config.stages import PredictConfig
from pfit_ray.errors import RowError
from pfit_ray.layout import RunDirectory
from pfit_ray.tasks.predict import PredictStage


class Colours:
    """A network whose three logits are the colours, and which notes what it sees."""

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, x: Tensor) -> Tensor:
        self.seen.append(tuple(x.shape))
        return x * self.factor


def stage(network: object, pad: bool = True, **config: object) -> PredictStage:
    result = PredictStage("unused", PredictConfig.model_validate({"scales": [1.0], **config}), pad)
    vars(result).update(device=torch.device("cpu"), network=network, mean=(0.0,) * 3, std=(1.0,) * 3)
    return result


def test_probabilities_are_the_softmax_of_the_summed_logits() -> None:
    row = {"image": np.array([[[255, 0, 0], [0, 0, 255]]], dtype=np.uint8)}
    stage(Colours()).process(row)
    assert row["label_ids"] == [0, 1, 2]
    assert row["probabilities"].dtype == np.float32
    strong, weak = np.exp(2) / (np.exp(2) + 2), 1 / (np.exp(2) + 2)  # image plus mirror image
    np.testing.assert_allclose(row["probabilities"], [[[strong, weak]], [[weak, weak]], [[weak, strong]]], rtol=1e-5)


@pytest.mark.parametrize(
    ("pad", "seen"), [(True, [(2, 3, 16, 32), (2, 3, 16, 16)]), (False, [(2, 3, 5, 17), (2, 3, 2, 8)])]
)
def test_scales_and_padding(pad: bool, seen: list[tuple[int, ...]]) -> None:
    network = Colours()
    row = {"image": np.zeros((5, 17, 3), dtype=np.uint8)}
    stage(network, pad, scales=[1.0, 0.5]).process(row)
    assert network.seen == seen
    assert row["probabilities"].shape == (3, 5, 17)
    np.testing.assert_allclose(row["probabilities"], 1 / 3, rtol=1e-6)


def test_improbable_labels_are_left_out() -> None:
    row = {"image": np.array([[[0, 0, 255]]], dtype=np.uint8)}
    stage(Colours(10.0), label_floor=0.01, flip=False).process(row)
    assert row["label_ids"] == [0, 2]
    assert row["probabilities"].shape == (2, 1, 1)


def test_nan_fails_the_row() -> None:
    with pytest.raises(RowError, match="the segmentation holds NaN or infinity"):
        stage(Colours(float("nan"))).process({"image": np.zeros((1, 1, 3), dtype=np.uint8)})


def test_a_trained_deeplab_is_loaded(run: RunDirectory, photo: np.ndarray) -> None:
    real = PredictStage(run.weights("deeplab"), PredictConfig(scales=(0.5, 1.0)), pad=True)
    real.setup()
    row = {"image": photo}
    real.process(row)
    assert row["probabilities"].shape == (3, 30, 37)
    np.testing.assert_allclose(row["probabilities"].sum(axis=0), 1, rtol=1e-5)
