import json
from pathlib import Path
from typing import Any

import pytest
import torch
from oracles.published_keys import published_keys, random_state

from pfit_ray.config import RunConfig
from pfit_ray.config.load import validate
from pfit_ray.errors import UserError
from pfit_ray.nets.affinitynet import AffinityNet
from pfit_ray.nets.classifier import CamClassifier
from pfit_ray.nets.deeplab import DeepLabV3Plus
from pfit_ray.nets.given_network import given_network
from pfit_ray.nets.weights import save_network
from pfit_ray.nets.zero_shot import ZeroShotClassifier
from pfit_ray.rundir.directory import Network

LITE = "efficientnet_lite0"
NAMES = ["cat", "cup", "motorbike", "rocket"]


def config(name: Network, path: Path, backbone: str = LITE, **section: Any) -> RunConfig:
    """A run with four classes that takes one network from a file."""
    own = {"source": "weights", "weights": str(path), "backbone": {"name": backbone, "weights": "none"}, **section}
    return validate({"output": "run", "data": {"source": "samples", "classes": NAMES}, name: own})


def ours(path: Path, network: torch.nn.Module, names: Any = NAMES) -> Path:
    path.write_bytes(save_network(network, {"classes": json.dumps(names)}))
    return path


def assert_equal(one: torch.nn.Module, other: torch.nn.Module) -> None:
    assert type(one) is type(other)
    state = other.state_dict()
    assert list(one.state_dict()) == list(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in one.state_dict().items())


def refusal(name: Network, path: Path, backbone: str = LITE) -> str:
    with pytest.raises(UserError) as caught:
        given_network(config(name, path, backbone), name)
    beginning = f"config: {name}.weights {path}: "
    assert str(caught.value).startswith(beginning)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(beginning)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("classifier", lambda: CamClassifier(LITE, 4)),
        ("classifier", lambda: ZeroShotClassifier(LITE, 4, n_rows=9)),
        ("affinitynet", lambda: AffinityNet(LITE)),
        ("deeplab", lambda: DeepLabV3Plus(LITE, 5)),
        ("deeplab", lambda: DeepLabV3Plus(LITE, 5, group_norm=False)),
    ],
)
def test_our_own_files(name: Network, make: Any, tmp_path: Path) -> None:
    network = make()
    path = ours(tmp_path / "mine.safetensors", network)
    assert_equal(given_network(config(name, path), name), network)


def test_file_without_metadata(tmp_path: Path) -> None:
    network = CamClassifier(LITE, 4)
    torch.save(network.state_dict(), tmp_path / "mine.pth")
    assert_equal(given_network(config("classifier", tmp_path / "mine.pth"), "classifier"), network)


@pytest.mark.parametrize("name", ["classifier", "affinitynet", "deeplab"])
def test_published_checkpoints(name: Network, tmp_path: Path) -> None:
    path = tmp_path / "ResNet50@Puzzle@optimal.pth"
    published = random_state(published_keys(name, "resnet50", n_classes=4))
    torch.save(published, path)
    state = given_network(config(name, path, "resnet50"), name).state_dict()
    assert torch.equal(state["backbone.layer3.5.bn2.bias"], published["stage4.0.5.bn2.bias"])


def test_published_checkpoints_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "ResNet50@Puzzle@optimal.pth"
    torch.save(random_state(published_keys("classifier", "resnet50")), path)
    assert refusal("classifier", path, "resnet50") == "the file is for 20 classes, but the run has 4 (data.classes)"
    assert refusal("classifier", path, "resnet101") == "the checkpoint holds a network on resnet50, not on resnet101"
    assert refusal("deeplab", path, "resnet50") == "the checkpoint holds the network classifier, not deeplab"


def test_other_networks(tmp_path: Path) -> None:
    path = ours(tmp_path / "w", CamClassifier(LITE, 4))
    wrong = "the file holds a network CamClassifier, where DeepLabV3Plus is wanted"
    assert refusal("deeplab", path) == wrong
    assert refusal("classifier", ours(tmp_path / "w", AffinityNet(LITE))) == (
        "the file holds a network AffinityNet, where CamClassifier or ZeroShotClassifier is wanted"
    )
    assert refusal("affinitynet", ours(tmp_path / "w", torch.nn.Linear(1, 1))).startswith(
        "the file holds a network Linear, where AffinityNet is wanted"
    )


def test_other_backbones(tmp_path: Path) -> None:
    path = ours(tmp_path / "w", AffinityNet("resnet18"))
    assert refusal("affinitynet", path) == (
        "the file holds a network on resnet18, but affinitynet.backbone.name is efficientnet_lite0; set it to "
        "resnet18, or take another file"
    )
    tagged = config("affinitynet", path, "resnet18.tv_in1k")
    assert isinstance(given_network(tagged, "affinitynet"), AffinityNet)
    torch.save(AffinityNet("resnet18").state_dict(), tmp_path / "bare.pth")
    assert refusal("affinitynet", tmp_path / "bare.pth").startswith(
        "the file: the weights belong to another network than AffinityNet on tf_efficientnet_lite0: "
    )


def test_unknown_backbone(tmp_path: Path) -> None:
    path = ours(tmp_path / "w", AffinityNet("resnet18"))
    with pytest.raises(UserError, match=r"^config: affinitynet\.backbone\.name: unknown backbone 'resnet19'"):
        given_network(config("affinitynet", path, "resnet19"), "affinitynet")


def test_other_numbers_of_classes(tmp_path: Path) -> None:
    path = ours(tmp_path / "w", CamClassifier(LITE, 3))
    assert refusal("classifier", path) == "the file is for 3 classes, but the run has 4 (data.classes)"
    path = ours(tmp_path / "w", DeepLabV3Plus(LITE, 4))
    assert refusal("deeplab", path) == "the file is for 3 classes and background, but the run has 4 (data.classes)"


def test_classes_in_another_order(tmp_path: Path) -> None:
    path = ours(tmp_path / "w", CamClassifier(LITE, 4), ["cup", "cat", "motorbike", "rocket"])
    assert refusal("classifier", path) == (
        "class 'cup' has the id 1 in the file, but 2 in data.classes; give data.classes the order of the file"
    )


@pytest.mark.parametrize("names", [["kitten", "mug", "motorbike", "rocket"], [], "cat", {"cat": 1}, [1, 2, 3, 4]])
def test_class_names_that_do_not_contradict(names: Any, tmp_path: Path) -> None:
    path = ours(tmp_path / "w", CamClassifier(LITE, 4), names)
    assert isinstance(given_network(config("classifier", path), "classifier"), CamClassifier)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "none.pth"
    with pytest.raises(UserError) as caught:
        given_network(config("deeplab", path), "deeplab")
    assert str(caught.value) == f"config: deeplab.weights names '{path}', and there is no such file"
    with pytest.raises(UserError) as caught:
        given_network(config("deeplab", tmp_path), "deeplab")
    assert str(caught.value) == f"config: deeplab.weights {tmp_path} cannot be read: Is a directory"
    path.write_bytes(b"<!DOCTYPE html>")
    assert refusal("deeplab", path) == "this is neither a safetensors file nor a PyTorch state dict"
