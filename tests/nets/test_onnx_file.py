import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pfit_ray import storage
from pfit_ray.errors import UserError
from pfit_ray.nets import onnx_file as module
from pfit_ray.nets.classifier import CamClassifier
from pfit_ray.nets.deeplab import DeepLabV3Plus
from pfit_ray.nets.networks import load_network
from pfit_ray.nets.onnx_file import load_onnx, onnx_file
from pfit_ray.nets.weights import load_state
from pfit_ray.tasks.network_stage import normalised_batch

onnxruntime = pytest.importorskip("onnxruntime")
LITE = "efficientnet_lite0"


@pytest.fixture(scope="module")
def deeplab() -> DeepLabV3Plus:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return DeepLabV3Plus(LITE, 3).eval()


@pytest.fixture(scope="module")
def deeplab_file(deeplab: DeepLabV3Plus) -> bytes:
    return onnx_file(deeplab, {"classes": '["cat", "dog"]'})


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 41, 90), (1, 33, 32)])
def test_any_batch_and_size_gives_what_predictions_have(
    deeplab: DeepLabV3Plus, deeplab_file: bytes, shape: tuple[int, int, int]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    session = onnxruntime.InferenceSession(deeplab_file, providers=["CPUExecutionProvider"])
    labels, logits = session.run(None, {"images": images})
    batch = normalised_batch(images, (0.5,) * 3, (0.5,) * 3, torch.device("cpu"))
    _, height, width = shape
    padded = torch.nn.functional.pad(batch, (0, -width % 16, 0, -height % 16))
    with torch.inference_mode():
        expected = deeplab(padded)[..., :height, :width].numpy()
    assert (labels.dtype, labels.shape, logits.shape) == (np.uint8, shape, (shape[0], 3, *shape[1:]))
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    assert (labels == expected.argmax(axis=1)).mean() > 0.999


def test_the_file_is_a_weight_file(deeplab: DeepLabV3Plus, deeplab_file: bytes, tmp_path: Path) -> None:
    storage.write_bytes(url := str(tmp_path / "model.onnx"), deeplab_file)
    network = load_network(url)
    image = torch.rand(1, 3, 48, 64)
    with torch.inference_mode():
        assert torch.equal(network(image), deeplab(image))
    _, metadata = load_state(deeplab_file)
    assert (metadata["network"], json.loads(metadata["classes"])) == ("DeepLabV3Plus", ["cat", "dog"])


def test_a_classifier_has_scores_and_maps() -> None:
    network = CamClassifier(LITE, 2).eval()
    data = onnx_file(network, {})
    images = np.random.default_rng(0).integers(0, 256, (2, 50, 70, 3), dtype=np.uint8)
    scores, maps = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, {"images": images})
    with torch.inference_mode():
        expected = network.maps_and_scores(normalised_batch(images, (0.5,) * 3, (0.5,) * 3, torch.device("cpu")))
    np.testing.assert_allclose(scores, expected[1], atol=1e-4)
    np.testing.assert_allclose(maps, expected[0], rtol=0, atol=1e-4 * float(expected[0].abs().max()))


def test_what_onnxruntime_computes_otherwise_is_not_written(
    deeplab: DeepLabV3Plus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AGREEMENT", 1.01)
    with pytest.raises(UserError, match="nothing was written"):
        onnx_file(deeplab, {})


def test_damaged_and_foreign_files(deeplab_file: bytes) -> None:
    import onnx

    with pytest.raises(ValueError, match="damaged"):
        load_state(deeplab_file[: len(deeplab_file) // 2])
    model = onnx.load_model_from_string(deeplab_file)
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    with pytest.raises(ValueError, match="in another file, which is refused"):
        load_onnx(model.SerializeToString())
    with pytest.raises(ValueError, match="no network that export-model has written"):
        load_onnx(onnx.ModelProto(ir_version=10).SerializeToString())


def test_without_the_extra_one_sentence(
    deeplab: DeepLabV3Plus, deeplab_file: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"onnx, onnxruntime is not installed; pip install 'pfit-ray\[onnx\]'"):
        onnx_file(deeplab, {})
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ValueError, match=r"pip install 'pfit-ray\[onnx\]'"):
        load_state(deeplab_file)
