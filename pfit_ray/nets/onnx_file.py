"""Trained networks as ONNX files: written with their normalisation, checked by onnxruntime, read back as weights."""

import io
import warnings
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional as F

from pfit_ray.errors import UserError
from pfit_ray.nets.backbones import normalisation
from pfit_ray.nets.classifier import CamClassifier
from pfit_ray.nets.deeplab import DeepLabV3Plus

AGREEMENT = 0.9999
"""The least part of the labels that onnxruntime must give as torch does."""

OPSET = 18
_EXTRA = "pip install 'pfit-ray[onnx]'"
_PREFIX = "network."
_OTHERS = "other_tensors"
"""Metadata: base64 of a safetensors file, the tensors that the graph has in another form or not at all."""
_SHAPES = ((2, 97, 131), (1, 224, 160), (1, 300, 321))
"""Batch, height and width of the images of the check."""


class _Whole(nn.Module):
    """A network with all that goes before and after it: uint8 RGB (B, H, W, 3) to what `outputs` names."""

    outputs: ClassVar[dict[str, dict[int, str]]]
    """Names of the outputs, and of the axes of each that have any size."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        mean, std = normalisation(network.get_submodule("backbone"))
        self.register_buffer("mean", 255 * torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std)[:, None, None], persistent=False)
        self.eval()

    def normalised(self, images: Tensor) -> Tensor:
        return (images.permute(0, 3, 1, 2).float() - self.mean) / self.std


class _Segmenter(_Whole):
    outputs: ClassVar = {
        "labels": {0: "batch", 1: "height", 2: "width"},
        "logits": {0: "batch", 2: "height", 3: "width"},
    }

    def __init__(self, network: DeepLabV3Plus, stride: int) -> None:
        super().__init__(network)
        self.stride = stride

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        height, width = images.shape[1:3]
        batch = self.normalised(images)
        if self.stride > 1:
            batch = F.pad(batch, (0, -width % self.stride, 0, -height % self.stride))
        logits = self.network(batch)[..., :height, :width]
        return logits.argmax(dim=1).to(torch.uint8), logits


class _Classifier(_Whole):
    outputs: ClassVar = {"scores": {0: "batch"}, "maps": {0: "batch", 2: "map_height", 3: "map_width"}}

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps, scores = cast(CamClassifier, self.network).maps_and_scores(self.normalised(images))
        return scores, maps


def onnx_file(network: nn.Module, metadata: Mapping[str, str], stride: int = 16) -> bytes:
    """A network as an ONNX file, once onnxruntime has given the same labels as torch.

    Its input `images` is uint8 RGB (B, H, W, 3), any B, H and W. DeepLabv3+ has the outputs `labels`, uint8 (B, H, W),
    and `logits`, float32 (B, L, H, W); a classifier `scores`, float32 (B, K) in [0, 1], and `maps`, (B, K, h, w).

    Args:
        network: a trained `DeepLabV3Plus` or `CamClassifier`, in evaluation mode.
        metadata: strings to keep in the file; `network`, `backbone` and what the inputs and outputs are come with them.
        stride: DeepLabv3+ pads images to a multiple of it, and cuts its output to their size; 1 pads nothing.

    Raises:
        UserError: when the extra `onnx` is missing, the network is another one, or onnxruntime does not agree.
    """
    _require("onnx", "onnxruntime")
    import onnx

    whole: _Segmenter | _Classifier
    if isinstance(network, DeepLabV3Plus):
        whole = _Segmenter(network, stride)
    elif isinstance(network, CamClassifier):
        whole = _Classifier(network)
    else:
        raise UserError(f"export-model: {type(network).__name__} is neither a DeepLabv3+ nor a classifier")
    example = torch.zeros(2, 75, 101, 3, dtype=torch.uint8)
    axes = {"images": dict(enumerate(("batch", "height", "width"))), **whole.outputs}
    model = onnx.load_model_from_string(exported(whole, example, axes, fold=False))
    _forget_sources(model)
    kept = _tensors(model)
    others = {name: tensor for name, tensor in network.state_dict().items() if name not in kept}
    told = {
        **metadata,
        "network": type(network).__name__,
        "backbone": str(network.backbone_name),
        "input": "images: uint8 RGB (B, H, W, 3); the normalisation is in the graph",
        "outputs": ", ".join(whole.outputs),
        _OTHERS: b64encode(save(others)).decode(),
    }
    for name, value in sorted(told.items()):
        entry = model.metadata_props.add()
        entry.key, entry.value = name, value
    data: bytes = model.SerializeToString(deterministic=True)
    agreement = _agreement(whole, data)
    if agreement < AGREEMENT:
        raise UserError(
            f"export-model: onnxruntime agrees with torch on {agreement:.2%}, and {AGREEMENT:.2%} are needed; "
            "nothing was written"
        )
    _check_tensors(network, data)
    return data


def exported(network: nn.Module, example: Tensor, axes: Mapping[str, Mapping[int, str]], *, fold: bool) -> bytes:
    """The graph of a network in evaluation mode, as the bytes of an ONNX model.

    Args:
        network: takes one tensor and gives one or several.
        example: an input; the size of an axis that is not named stays as it is here.
        axes: names of the input, then of the outputs, and of the axes of each that have any size.
        fold: fold batch normalisations into convolutions, which is faster; else all tensors keep their names.
    """
    file: Any = io.BytesIO()  # which the exporter takes, too, whatever its signature says
    mode = torch.onnx.TrainingMode
    given, *outputs = axes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about itself, of the tracer about sides
        # The exporter on torch.export reasons for minutes about sides of any size; that on TorchScript takes a second.
        torch.onnx.export(
            network.eval(), (example,), file, dynamo=False, opset_version=OPSET, input_names=[given],
            training=mode.EVAL if fold else mode.PRESERVE, do_constant_folding=fold, output_names=outputs,
            dynamic_axes=axes,
        )  # fmt: skip
    data: bytes = file.getvalue()
    return data


def session(data: bytes, threads: int | None = None) -> Any:
    """An onnxruntime session of a model, on the CPU.

    Args:
        data: of `exported`.
        threads: how many it takes; None: as many as there are cores.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.enable_mem_pattern = False  # which is kept for each size of images
    if threads is not None:
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # others need the cores
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def load_onnx(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name and metadata of a file that `onnx_file` has made; the graph is not run.

    Raises:
        ValueError: when the extra is missing, or the file is damaged or has tensors in other files.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise ValueError(f"an ONNX file is read by the package onnx, which is not installed; {_EXTRA}") from error
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise ValueError("this is neither a weight file nor an ONNX file, or it is damaged") from error
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    state = _tensors(model)
    if not state:
        raise ValueError("the ONNX file holds no network that export-model has written")
    try:
        state |= load(b64decode(metadata.pop(_OTHERS, "")))
    except (ValueError, SafetensorError) as error:
        raise ValueError(f"the ONNX file is damaged: {_OTHERS} in its metadata is not whole") from error
    return state, metadata


def _tensors(model: Any) -> dict[str, Tensor]:
    """The network's tensors that the graph has under their own names."""
    import onnx

    state: dict[str, Tensor] = {}
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ValueError(f"the ONNX file keeps its tensor {tensor.name!r} in another file, which is refused")
        if tensor.name.startswith(_PREFIX):
            try:
                array = onnx.numpy_helper.to_array(tensor)
            except (ValueError, TypeError) as error:
                raise ValueError(f"the ONNX file is damaged: its tensor {tensor.name!r} is not whole") from error
            state[tensor.name.removeprefix(_PREFIX)] = torch.from_numpy(array.copy())
    return state


def _forget_sources(model: Any) -> None:
    """Remove what the exporter notes of the source files, whose paths are of this machine."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")


def _require(*packages: str) -> None:
    import importlib.util

    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"export-model: {', '.join(missing)} is not installed; {_EXTRA}")


def _agreement(whole: _Segmenter | _Classifier, data: bytes) -> float:
    """Part of the labels that are the same; of a classifier the strongest class at each place, where K > 1."""
    opened = session(data)
    equal = total = 0
    random = np.random.default_rng(0)
    for batch, height, width in _SHAPES:
        coarse = torch.from_numpy(random.uniform(0, 255, (batch, 3, 9, 9)).astype(np.float32))
        smooth = F.interpolate(coarse, size=(height, width), mode="bilinear").permute(0, 2, 3, 1).numpy()
        images = np.clip(smooth + random.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)
        with torch.inference_mode():
            first, second = (output.cpu().numpy() for output in whole(torch.from_numpy(images)))
        found: list[Any] = opened.run([*whole.outputs], {"images": images})
        if isinstance(whole, _Segmenter):
            same = found[0] == first
        else:
            if not np.allclose(found[0], first, atol=1e-3) or not np.allclose(
                found[1], second, rtol=0, atol=1e-3 * float(np.abs(second).max())
            ):
                return 0.0
            same = found[1].argmax(axis=1) == second.argmax(axis=1)
        equal, total = equal + int(same.sum()), total + same.size
    return equal / total


def _check_tensors(network: nn.Module, data: bytes) -> None:
    """Make sure that what is read back is what the network has."""
    state, _ = load_onnx(data)
    for name, tensor in network.state_dict().items():
        if not torch.equal(state[name], tensor.cpu()):
            raise UserError(f"export-model: the tensor {name!r} differs in the ONNX file; nothing was written")
