import numpy as np
import pytest
import torch
from torch import Tensor

from pfit_ray.config.stages import WalkConfig
from pfit_ray.errors import RowError
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.tasks.edge import EdgeStage


class Columns:
    """A network whose logits are the red channel at stride 4, and which notes what it sees."""

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, x: Tensor) -> Tensor:
        self.seen.append(tuple(x.shape))
        return x[:, :1, ::4, ::4] * self.factor


def stage(network: object, reference: bool, **config: object) -> EdgeStage:
    result = EdgeStage("unused", WalkConfig.model_validate(config), reference)
    vars(result).update(device=torch.device("cpu"), network=network, mean=(0.0,) * 3, std=(1.0,) * 3)
    return result


@pytest.mark.parametrize(
    ("shape", "reference", "canvas"),
    [
        ((5, 17), False, (16, 32)),
        ((16, 32), False, (16, 32)),
        ((1, 1), False, (16, 16)),
        ((5, 17), True, (512, 512)),
        ((5, 513), True, (512, 528)),
    ],
)
def test_padding(shape: tuple[int, int], reference: bool, canvas: tuple[int, int]) -> None:
    network = Columns()
    row = {"image": np.zeros((*shape, 3), dtype=np.uint8)}
    stage(network, reference).process(row)
    assert network.seen == [(2, 3, *canvas)]
    assert row["edge"].shape == ((shape[0] + 3) // 4, (shape[1] + 3) // 4)
    assert row["edge"].dtype == np.float32
    assert (row["edge"] == 0.5).all()


def test_the_mirror_image_lies_on_the_image() -> None:
    """Columns 0..3 are red, so that the network sees a red cell, also in the mirrored picture."""
    row = {"image": np.zeros((4, 16, 3), dtype=np.uint8)}
    row["image"][:, :4, 0] = 255
    stage(Columns(), False).process(row)
    np.testing.assert_allclose(row["edge"], [[1 / (1 + np.exp(-1)), 0.5, 0.5, 0.5]], rtol=1e-6)


@pytest.mark.parametrize(
    ("reference", "max_side", "seen"),
    [(False, 32, (32, 16)), (False, None, (112, 48)), (False, 100, (112, 48)), (True, 32, (512, 512))],
)
def test_large_images_are_shrunk_for_the_network(reference: bool, max_side: int | None, seen: tuple[int, int]) -> None:
    network = Columns()
    row = {"image": np.zeros((100, 40, 3), dtype=np.uint8)}
    row["image"][50:, :, 0] = 255
    stage(network, reference, max_side=max_side).process(row)
    assert network.seen == [(2, 3, *seen)]
    assert row["edge"].shape == (25, 10)
    np.testing.assert_allclose(row["edge"][0], 0.5)
    np.testing.assert_allclose(row["edge"][-1, :5], 1 / (1 + np.exp(-1)), rtol=1e-6)


def test_nan_fails_the_row() -> None:
    with pytest.raises(RowError, match="the edge map holds NaN or infinity"):
        stage(Columns(float("nan")), False).process({"image": np.zeros((4, 4, 3), dtype=np.uint8)})


def test_a_batch_gives_what_its_images_give_alone(run: RunDirectory, photo: np.ndarray) -> None:
    real = EdgeStage(run.weights("affinitynet"), WalkConfig(), reference=False)
    real.setup()
    alone, together = ([{"image": image} for image in (photo, photo[:, ::-1], 255 - photo)] for _ in range(2))
    for row in alone:
        real.process(row)
    assert real.process_batch(together) == [None] * 3
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one["edge"], other["edge"], atol=1e-5)


def test_a_trained_affinitynet_is_loaded(run: RunDirectory, photo: np.ndarray) -> None:
    real = EdgeStage(run.weights("affinitynet"), WalkConfig(), reference=False)
    real.setup()
    row = {"image": photo}
    real.process(row)
    assert row["edge"].shape == (8, 10)
    assert 0 <= row["edge"].min() <= row["edge"].max() <= 1


@pytest.mark.parametrize(("reference", "dtype"), [(False, torch.bfloat16), (True, torch.float32)])
def test_reference_is_never_less_precise(reference: bool, dtype: torch.dtype) -> None:
    """A layer under the network shows the type in which autocast lets it run."""

    class Layered(Columns):
        def __call__(self, x: Tensor) -> Tensor:
            assert torch.nn.functional.conv2d(x, torch.ones(1, 3, 1, 1)).dtype == dtype
            return super().__call__(x)

    network = Layered()
    stage(network, reference, precision="bfloat16").process({"image": np.zeros((16, 16, 3), dtype=np.uint8)})
    assert network.seen
