"""What computes a network on a CPU: torch, torch in another layout of memory, or onnxruntime."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pfit_ray.constants import NetworkEngine
from pfit_ray.errors import UserError, last_line
from pfit_ray.nets.backbones import LEVELS, features_and_levels
from pfit_ray.nets.classifier import CamClassifier
from pfit_ray.nets.onnx_file import exported, session

AGREEMENT = 1e-4
"""The most by which onnxruntime's features may differ from torch's, in parts of their maximum."""

_AXES = {0: "batch", 2: "height", 3: "width"}
_SHAPES = ((1, 3, 64, 96), (2, 3, 97, 131))
"""Of the random images that a graph is tried with."""
_SHRINK = ("memory.enable_memory_arena_shrinkage", "cpu:0")


def with_engine(network: nn.Module, device: torch.device, engine: NetworkEngine) -> nn.Module:
    """A trained network for inference on a device, with what computes it there; the network itself changes.

    All engines give the same up to rounding, about 1e-5 of the maximum. On other devices than CPUs torch computes.

    Args:
        network: one of ours, in evaluation mode.
        device: where it shall run.
        engine: `torch`: torch's own layout (B, C, H, W); `channels_last`: torch with (B, H, W, C) in memory, which its
            convolutions on CPUs prefer; `onnxruntime`: the same, with the backbone's graph in onnxruntime, which takes
            as many threads as torch has now.

    Raises:
        UserError: when onnxruntime is not installed, cannot compute the backbone, or gives something else than torch.
    """
    network = network.to(device)
    if device.type != "cpu" or engine == "torch":
        return network
    if engine == "onnxruntime":
        given = network.get_submodule("backbone")
        network.set_submodule("backbone", OnnxBackbone(given, deep=isinstance(network, CamClassifier)))
    return network.to(memory_format=torch.channels_last)


class OnnxBackbone(nn.Module):
    """A backbone whose graph onnxruntime computes, for any number of images of any size by one session.

    It offers what `pfit_ray.nets.backbones` calls on one.

    Args:
        backbone: of `create_backbone`, with its weights, in evaluation mode.
        deep: whether `forward_features` will be called, or else the levels of the pyramid suffice.

    Raises:
        UserError: see `with_engine`.
    """

    def __init__(self, backbone: nn.Module, deep: bool) -> None:
        super().__init__()
        self.pretrained_cfg: Any = backbone.pretrained_cfg
        self.outputs = [*(["features"] if deep else []), *(f"level_{number}" for number in range(LEVELS))]
        whole = _Backbone(backbone, deep).eval()
        try:
            graph = exported(
                whole, torch.zeros(2, 3, 75, 101), dict.fromkeys(["images", *self.outputs], _AXES), fold=True
            )
            self.session = session(graph, torch.get_num_threads())
            difference = max(self._difference(whole, shape) for shape in _SHAPES)
        except Exception as error:  # of the exporter, of onnxruntime, or because one of them is not installed
            raise UserError(
                f"config: network_engine: onnxruntime cannot compute this backbone ({last_line(error)}); "
                "set network_engine=channels_last"
            ) from error
        if not difference <= AGREEMENT:
            raise UserError(
                f"config: network_engine: onnxruntime's features of this backbone differ from torch's by "
                f"{difference:.1g} of their maximum, {AGREEMENT:g} is allowed; set network_engine=channels_last"
            )

    def forward_features(self, x: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to features (B, C, h, w)."""
        return self._run(x, self.outputs[:1])[0]

    def forward_intermediates(self, x: Tensor, indices: int, intermediates_only: bool = False) -> Any:
        """The five levels of the pyramid of images (B, 3, H, W); unless they alone are asked for, features first."""
        levels = self.outputs[-indices:]
        if intermediates_only:
            return self._run(x, levels)
        features, *rest = self._run(x, ["features", *levels])
        return features, rest

    def _run(self, x: Tensor, outputs: list[str]) -> list[Tensor]:
        import onnxruntime
        from onnxruntime.capi.onnxruntime_pybind11_state import Fail, RuntimeException

        options = onnxruntime.RunOptions()
        options.add_run_config_entry(*_SHRINK)  # other stages of this worker need the memory
        try:
            found = self.session.run(outputs, {"images": np.ascontiguousarray(x.numpy())}, options)
        except (Fail, RuntimeException) as error:
            if "alloc" in str(error):
                raise MemoryError(str(error)) from error
            raise
        return [torch.from_numpy(one).contiguous(memory_format=torch.channels_last) for one in found]

    def _difference(self, whole: nn.Module, shape: tuple[int, ...]) -> float:
        images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        with torch.inference_mode():
            wanted = whole(torch.from_numpy(images))
        found = self._run(torch.from_numpy(images), self.outputs)
        return max(_apart(one.numpy(), other.numpy()) for one, other in zip(found, wanted, strict=True))


class _Backbone(nn.Module):
    """What `OnnxBackbone` computes, in torch."""

    def __init__(self, backbone: nn.Module, deep: bool) -> None:
        super().__init__()
        self.backbone = backbone
        self.deep = deep

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        if self.deep:
            features, levels = features_and_levels(self.backbone, images)
            return features, *levels
        backbone: Any = self.backbone
        return tuple(backbone.forward_intermediates(images, indices=LEVELS, intermediates_only=True))


def _apart(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """Largest difference in parts of the largest value."""
    if found.shape != wanted.shape:
        return float("inf")
    largest = float(np.abs(wanted).max())
    return float(np.abs(found - wanted).max()) / largest if largest else float(np.abs(found).max())
