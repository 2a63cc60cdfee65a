import importlib.util
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pfit_ray.nets.affinitynet import AffinityNet
from pfit_ray.nets.backbones import pyramid
from pfit_ray.nets.classifier import CamClassifier
from pfit_ray.nets.deeplab import DeepLabV3Plus
from pfit_ray.nets.published import convert_published
from pfit_ray.nets.weights import load_into, load_state

ARCHITECTURES = ["resnet50", "resnest101"]


def checkpoint(golden, network, backbone):
    """A checkpoint in the published format whose tensors follow from their names."""
    spec = importlib.util.spec_from_file_location("make_checkpoint", golden / "make_checkpoint.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    keys = json.loads((golden / "nets" / f"{network}_{backbone}_keys.json").read_text())
    return module.state_dict(keys)


def fill(network, golden, kind, backbone):
    load_into(network, convert_published(checkpoint(golden, kind, backbone), kind, backbone), "golden")
    return network.eval()


def image(golden):
    return torch.from_numpy(np.load(golden / "nets" / "input_1x3x128x128.npy"))


def assert_equal_to_maximum(ours, theirs):
    assert ours.shape == theirs.shape
    assert np.abs(ours.numpy() - theirs).max() <= 1e-5 * np.abs(theirs).max()


@pytest.mark.parametrize("backbone", ARCHITECTURES)
@torch.no_grad()
def test_classifier(golden, backbone):
    network = fill(CamClassifier(backbone, 20), golden, "classifier", backbone)
    expected = np.load(golden / "nets" / f"classifier_{backbone}.npz")
    x = image(golden)
    maps = network(x)
    assert_equal_to_maximum(maps, expected["features"])
    assert_equal_to_maximum(network.logits(maps), expected["logits"])
    assert_equal_to_maximum(pyramid(network.backbone, x)[-1][:, ::16], expected["stage5"])


@pytest.mark.parametrize("backbone", ARCHITECTURES)
@torch.no_grad()
def test_affinitynet(golden, backbone):
    network = fill(AffinityNet(backbone), golden, "affinitynet", backbone)
    expected = np.load(golden / "nets" / f"affinitynet_{backbone}.npz")
    assert_equal_to_maximum(network(image(golden)), expected["edge_logits"])
    pair = torch.from_numpy(np.load(golden / "nets" / "input_2x3x96x128_imgflip.npy"))
    logits = network(F.pad(pair, (0, 384, 0, 416)))[:, :, :24, :32]
    edge = torch.sigmoid(logits[0] / 2 + logits[1].flip(-1) / 2)
    assert_equal_to_maximum(edge, expected["get_edge"])


@pytest.mark.parametrize("backbone", ARCHITECTURES)
@torch.no_grad()
def test_deeplab(golden, backbone):
    network = fill(DeepLabV3Plus(backbone, 21), golden, "deeplab", backbone)
    expected = np.load(golden / "nets" / f"deeplab_{backbone}.npz")
    assert_equal_to_maximum(network(image(golden))[:, :, ::2, ::2], expected["logits"])


@pytest.fixture(scope="module")
def published(golden):
    return checkpoint(golden, "classifier", "resnet50")


def test_checkpoint_file(published, tmp_path):
    torch.save(published, tmp_path / "classifier.pth")
    state, _ = load_state(tmp_path / "classifier.pth")
    ours = convert_published(state, "classifier", "resnet50")
    assert len(ours) == 319
    assert torch.equal(ours["backbone.layer4.2.conv3.weight"], published["stage5.0.2.conv3.weight"])
    assert torch.equal(ours["backbone.conv1.weight"], published["model.conv1.weight"])


@pytest.mark.parametrize("kept", ["model.", "stage"])
def test_one_name_of_a_tensor_suffices(published, kept):
    state = {name: tensor for name, tensor in published.items() if name.startswith((kept, "classifier."))}
    assert len(convert_published(state, "classifier", "resnet50")) == 319


def test_names_that_disagree(published):
    state = {**published, "stage1.0.weight": published["stage1.0.weight"] + 1}
    with pytest.raises(ValueError, match=r"two different values of 'stage1.0.weight'"):
        convert_published(state, "classifier", "resnet50")


def test_checkpoints_that_do_not_fit(published):
    with pytest.raises(ValueError, match=r"another network than CamClassifier on resnet101.* is missing"):
        convert_published(published, "classifier", "resnet101")
    with pytest.raises(ValueError, match="holds no deeplab: its last layer is missing"):
        convert_published(published, "deeplab", "resnet50")
    with pytest.raises(ValueError, match="'extra' has no place in it"):
        convert_published({**published, "extra": torch.zeros(1)}, "classifier", "resnet50")
    with pytest.raises(ValueError, match="unknown published network 'unet'"):
        convert_published(published, "unet", "resnet50")
