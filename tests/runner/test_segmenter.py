from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pfit_ray as pf
from pfit_ray import storage
from pfit_ray.config.load import resolved_yaml, validate
from pfit_ray.errors import UserError
from pfit_ray.nets.affinitynet import AffinityNet
from pfit_ray.nets.deeplab import DeepLabV3Plus
from pfit_ray.nets.weights import save_network
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.runner.segmenter import segmenter_config

LITE = "efficientnet_lite0"
CLASSES = {"classes": '["cat", "yes"]'}


@pytest.fixture
def weights(tmp_path: Path) -> str:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        data = save_network(DeepLabV3Plus(LITE, 3), CLASSES)
    storage.write_bytes(url := str(tmp_path / "deeplab.safetensors"), data)
    return url


@pytest.fixture
def images(tmp_path: Path) -> str:
    for name in ("one", "two"):
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.new("RGB", (40, 30), (200, 80, 70)).save(tmp_path / "images" / name / "a.jpg")
    return str(tmp_path / "images")


def test_a_weight_file_is_a_config_that_only_segments(weights: str, images: str) -> None:
    config = segmenter_config(weights, images, "out", ["predict.scales=[1.0]"])
    assert (config.passes, config.data.source, config.data.classes) == (("predict",), "folder", ("cat", "yes"))
    assert (config.deeplab.source, config.deeplab.weights, config.deeplab.backbone.weights) == (
        "weights",
        weights,
        "none",
    )
    assert config.predict.scales == (1.0,)


def test_a_run_segments_as_it_did_itself(weights: str, images: str, tmp_path: Path) -> None:
    run = RunDirectory(str(tmp_path / "run"))
    data = {"source": "folder", "root": images, "classes": ["cat", "yes"]}
    own = validate(
        {
            "output": run.root, "data": data, "predict": {"scales": [0.5], "flip": False},
            "deeplab": {"backbone": {"name": LITE, "weights": "none"}},
        }
    )  # fmt: skip
    storage.write_bytes(run.url("config.yaml"), resolved_yaml(own).encode())
    with pytest.raises(UserError, match="no DeepLabv3"):
        segmenter_config(run.root, images, "out")
    storage.write_bytes(run.weights("deeplab"), storage.read_bytes(weights))
    config = segmenter_config(run.root, images, "out")
    assert config.predict == own.predict
    assert config.deeplab.weights == run.weights("deeplab")
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    segmenter = pf.load_segmenter(run.root)
    label = segmenter(image)
    assert (segmenter.classes, label.shape, label.dtype) == (("cat", "yes"), (30, 40), np.uint8)
    assert np.array_equal(label, pf.load_segmenter(weights, scales=[0.5], flip=False)(image))


def test_what_is_no_segmenter_is_refused(images: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run directory and no weight file"):
        segmenter_config(str(tmp_path / "nowhere"), images, "out")
    other = str(tmp_path / "affinitynet.safetensors")
    storage.write_bytes(other, save_network(AffinityNet(LITE), CLASSES))
    with pytest.raises(UserError, match="holds AffinityNet"):
        segmenter_config(other, images, "out")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(UserError, match="text"):
        segmenter_config(str(tmp_path / "text"), images, "out")


@pytest.mark.slow
def test_predictions_of_a_folder(weights: str, images: str, tmp_path: Path) -> None:
    from support.small_runs import command

    words = ("predict", weights, images, "-o", str(tmp_path / "out"), "predict.scales=[1.0]")
    done = command(*words)
    assert done.code == 0
    assert "pass predict: 2 ok + 0 failed = 2 images" in done.out
    assert "Nothing to do" in command(*words).out
