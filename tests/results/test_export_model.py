import doctest
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.places import REPOSITORY

import pfit_ray as pf
from pfit_ray import storage
from pfit_ray.config.load import validate
from pfit_ray.config.stored import stored_yaml
from pfit_ray.errors import UserError
from pfit_ray.nets.deeplab import DeepLabV3Plus
from pfit_ray.nets.weights import save_network
from pfit_ray.results.export_model import export_model
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.runner.segmenter import segmenter_config

onnxruntime = pytest.importorskip("onnxruntime")
LITE = "efficientnet_lite0"
CLASSES = ["cat", "dog"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's network as ONNX, beside the run."""
    folder = tmp_path_factory.mktemp("model")
    run = RunDirectory(str(folder / "run"))
    data = {"source": "folder", "root": str(folder / "private"), "classes": CLASSES}
    backbone = {"backbone": {"name": LITE, "weights": "none"}}
    storage.write_bytes(
        run.url("config.yaml"), stored_yaml(validate({"output": run.root, "data": data, "deeplab": backbone}))
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = save_network(DeepLabV3Plus(LITE, 3), {"classes": json.dumps(CLASSES)})
    storage.write_bytes(run.weights("deeplab"), weights)
    run.write_json({"sha256": hashlib.sha256(weights).hexdigest(), "source": "train"}, "checkpoints", "deeplab.json")
    run.write_json({"images": 7}, "manifest", "train.json")
    assert export_model(run.root, str(folder / "model.onnx")) == str(folder / "model.onnx")
    return folder / "model.onnx"


def test_it_says_what_it_is_and_no_place(model: Path) -> None:
    told = onnxruntime.InferenceSession(model).get_modelmeta().custom_metadata_map
    trained = json.loads(told["trained_from"])
    assert (json.loads(told["classes"]), told["network"], told["backbone"]) == (
        CLASSES, "DeepLabV3Plus", "tf_efficientnet_lite0",
    )  # fmt: skip
    assert (trained["source"], trained["weights_sha256"], trained["images"]) == (
        "train", hashlib.sha256((model.parent / "run/checkpoints/deeplab.safetensors").read_bytes()).hexdigest(), 7
    )  # fmt: skip
    assert trained["method"]["predict"]["scales"]
    assert str(model.parent) not in json.dumps(told)
    data = model.read_bytes()
    assert str(model.parent).encode() not in data
    assert b"site-packages" not in data
    assert b"pfit_ray/nets" not in data


def test_it_segments_as_its_run(model: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "one.png")
    config = segmenter_config(str(model), str(tmp_path), "out")
    assert (config.data.classes, config.deeplab.weights) == (tuple(CLASSES), str(model))
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    options = {"scales": [1.0], "flip": False}
    weights = str(model.parent / "run" / "checkpoints" / "deeplab.safetensors")
    assert np.array_equal(pf.load_segmenter(str(model), **options)(image), pf.load_segmenter(weights, **options)(image))


def test_the_example_of_the_page(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model.parent)
    text = (REPOSITORY / "docs" / "export.md").read_text(encoding="utf-8")
    examples = doctest.DocTestParser().get_doctest(text, {}, "export.md", None, 0)
    assert len(examples.examples) > 6
    said: list[str] = []
    failed, _ = doctest.DocTestRunner(verbose=False).run(examples, out=said.append)
    assert failed == 0, "".join(said)


def test_what_is_not_there(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no classifier yet"):
        export_model(str(model.parent / "run"), str(tmp_path / "x.onnx"), "classifier")
    with pytest.raises(UserError, match="no run directory and no weight file"):
        export_model(str(tmp_path / "nowhere"), str(tmp_path / "x.onnx"))
    assert not (tmp_path / "x.onnx").exists()
