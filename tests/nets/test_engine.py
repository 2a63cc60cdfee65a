from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pfit_ray.constants import NetworkEngine
from pfit_ray.errors import UserError
from pfit_ray.nets import engine as module
from pfit_ray.nets.affinitynet import AffinityNet
from pfit_ray.nets.backbones import create_backbone, features_and_levels, forward_features, normalisation, pyramid
from pfit_ray.nets.classifier import CamClassifier
from pfit_ray.nets.deeplab import DeepLabV3Plus
from pfit_ray.nets.engine import AGREEMENT, OnnxBackbone, with_engine
from pfit_ray.nets.zero_shot import ZeroShotClassifier

CPU = torch.device("cpu")
LITE = "efficientnet_lite0"
SHAPES = ((1, 3, 64, 96), (2, 3, 48, 33), (3, 3, 1, 1), (1, 3, 17, 250))
NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[Any, Tensor], Tensor], int]] = {
    "classifier": (lambda: CamClassifier(LITE, 3), lambda network, x: network.maps_and_scores(x)[0], 1),
    "scores": (lambda: ZeroShotClassifier(LITE, 3, n_rows=9), lambda network, x: network.maps_and_scores(x)[1], 1),
    "affinitynet": (lambda: AffinityNet(LITE), lambda network, x: network(x), 16),
    "deeplab": (lambda: DeepLabV3Plus(LITE, 3), lambda network, x: network(x), 16),
}
"""How each is made and computed, and of what the sides of its images are a multiple."""


def made(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = NETWORKS[name][0]()
        if isinstance(network, ZeroShotClassifier):
            nn.init.normal_(network.head_weight)
            network.membership[:, :3] = torch.eye(3)
    return network.eval()


def images(shape: tuple[int, ...], multiple: int = 1) -> Tensor:
    sides = [-(-side // multiple) * multiple for side in shape[2:]]
    return torch.from_numpy(np.random.default_rng(1).normal(size=(*shape[:2], *sides)).astype(np.float32))


def apart(one: Tensor, other: Tensor) -> float:
    assert one.shape == other.shape
    return float((one - other).abs().max() / other.abs().max())


@pytest.mark.parametrize("engine", ["torch", "channels_last", "onnxruntime"])
@pytest.mark.parametrize("name", NETWORKS)
def test_engines_give_the_same_at_any_size(name: str, engine: NetworkEngine) -> None:
    if engine == "onnxruntime":
        pytest.importorskip("onnxruntime")
    _, compute, multiple = NETWORKS[name]
    plain, network = made(name), with_engine(made(name), CPU, engine)
    assert normalisation(network.get_submodule("backbone")) == normalisation(plain.get_submodule("backbone"))
    with torch.inference_mode():
        for shape in SHAPES:
            x = images(shape, multiple)
            found = compute(network, x)
            assert found.dtype == torch.float32
            assert apart(found, compute(plain, x)) <= AGREEMENT
            assert torch.equal(found, compute(network, x))


@pytest.mark.parametrize("name", ["resnet18", "resnest14d", "regnety_002", "darknet17"])
def test_backbones_of_other_families(name: str) -> None:
    pytest.importorskip("onnxruntime")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = create_backbone(name).eval()
    deep, flat = OnnxBackbone(backbone, deep=True), OnnxBackbone(backbone, deep=False)
    with torch.inference_mode():
        for shape in SHAPES[:2]:
            x = images(shape)
            features, levels = features_and_levels(backbone, x)
            found = features_and_levels(deep, x)
            pairs = [(forward_features(deep, x), features), (found[0], features), *zip(found[1], levels, strict=True)]
            pairs += zip(pyramid(flat, x), pyramid(backbone, x), strict=True)
            assert max(apart(one, other) for one, other in pairs) <= AGREEMENT


def test_a_session_takes_as_many_threads_as_torch_and_serves_all_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    network: Any = with_engine(made("classifier"), CPU, "onnxruntime")
    session = network.backbone.session
    assert session.get_session_options().intra_op_num_threads == 3
    monkeypatch.setattr(module, "session", None)
    for shape in SHAPES:
        network(images(shape))


def test_what_onnxruntime_cannot_compute_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    with monkeypatch.context() as patch:
        patch.setattr(module, "session", lambda data, threads: Answers(0.01))
        with pytest.raises(UserError, match=r"network_engine: onnxruntime's features .* by 0.01 of their maximum"):
            with_engine(made("classifier"), CPU, "onnxruntime")

    with pytest.raises(
        UserError, match=r"this backbone .*network_engine=channels_last$"
    ):  # sides are baked into its graph
        OnnxBackbone(create_backbone("mobilevit_xxs").eval(), deep=False)

    class Odd(nn.Module):
        pretrained_cfg: ClassVar = {"mean": (0.5,) * 3, "std": (0.5,) * 3}

        def forward_intermediates(self, x: Tensor, indices: int, intermediates_only: bool) -> list[Tensor]:
            return [torch.linalg.eigvals(x).abs()] * indices

    with pytest.raises(UserError, match=r"onnxruntime cannot compute this backbone .*network_engine=channels_last$"):
        OnnxBackbone(Odd(), deep=False)


class Answers:
    """A session whose answers are a little off, or which has no memory."""

    def __init__(self, off: float, error: Exception | None = None) -> None:
        self.off, self.error = off, error
        self.backbone = made("classifier").get_submodule("backbone")

    def run(self, outputs: list[str], given: dict[str, np.ndarray], options: object) -> list[np.ndarray]:
        if self.error is not None:
            raise self.error
        with torch.inference_mode():
            features, levels = features_and_levels(self.backbone, torch.from_numpy(given["images"]))
        found = {"features": features} | {f"level_{index}": level for index, level in enumerate(levels)}
        result = [found[name].numpy().copy() for name in outputs]
        result[0][0, 0, 0, 0] += self.off * np.abs(result[0]).max()
        return result


def test_memory_that_cannot_be_had_fails_the_image() -> None:
    pytest.importorskip("onnxruntime")
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, RuntimeException

    network: Any = with_engine(made("classifier"), CPU, "onnxruntime")
    for error in (RuntimeException("Failed to allocate memory for requested buffer of size 9"), Fail("bad allocation")):
        network.backbone.session = Answers(0.0, error)
        with pytest.raises(MemoryError, match="alloc"):
            network(images(SHAPES[0]))
    network.backbone.session = Answers(0.0, Fail("no such node"))
    with pytest.raises(Fail):
        network(images(SHAPES[0]))
