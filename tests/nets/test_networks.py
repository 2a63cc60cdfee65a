from pathlib import Path

import pytest
import torch

from pfit_ray.errors import UserError
from pfit_ray.nets.affinitynet import AffinityNet
from pfit_ray.nets.classifier import CamClassifier
from pfit_ray.nets.deeplab import DeepLabV3Plus
from pfit_ray.nets.networks import load_network, rebuild_network
from pfit_ray.nets.weights import save_network
from pfit_ray.nets.zero_shot import ZeroShotClassifier

LITE = "efficientnet_lite0"


@pytest.mark.parametrize(
    "make",
    [
        lambda: CamClassifier(LITE, 3),
        lambda: ZeroShotClassifier(LITE, 3, n_rows=7),
        lambda: AffinityNet(LITE),
        lambda: DeepLabV3Plus(LITE, 4, group_norm=True),
        lambda: DeepLabV3Plus("resnet18", 4, group_norm=False),
    ],
)
def test_sizes_follow_from_the_tensors(make) -> None:
    with torch.device("meta"):
        network = make()
        rebuilt = rebuild_network(type(network).__name__, network.backbone_name, network.state_dict())
    assert type(rebuilt) is type(network)
    shapes = [{name: x.shape for name, x in one.state_dict().items()} for one in (network, rebuilt)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("kind", "state", "sentence"),
    [
        ("Linear", {}, "does not say which network it holds"),
        ("CamClassifier", {}, "the tensor 'classifier.weight' is missing or has no rows"),
        ("DeepLabV3Plus", {"decoder.classifier.weight": torch.tensor(1.0)}, "'decoder.classifier.weight' is missing"),
        ("CamClassifier", {"classifier.weight": torch.zeros(0, 1)}, "at least one class, not 0"),
    ],
)
def test_tensors_that_do_not_tell(kind: str, state: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        rebuild_network(kind, LITE, state)


def saved(network: torch.nn.Module, folder: Path) -> str:
    path = folder / "network.safetensors"
    path.write_bytes(save_network(network, {"classes": "[]"}))
    return str(path)


@pytest.mark.parametrize(
    "make",
    [
        lambda: CamClassifier(LITE, 3),
        lambda: ZeroShotClassifier(LITE, 3, n_rows=7),
        lambda: AffinityNet(LITE),
        lambda: DeepLabV3Plus(LITE, 4, group_norm=True),
        lambda: DeepLabV3Plus("resnet18", 4, group_norm=False),
    ],
)
def test_saved_network_comes_back(make, tmp_path: Path) -> None:
    network = make().eval()
    loaded = load_network(saved(network, tmp_path))
    assert type(loaded) is type(network)
    assert not loaded.training
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(images), network(images))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none.safetensors: there are no weights"):
        load_network(str(tmp_path / "none.safetensors"))


def test_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "damaged.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"damaged.safetensors: .*neither a safetensors file"):
        load_network(str(tmp_path / "damaged.safetensors"))


def test_unknown_network(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not say which network it holds"):
        load_network(saved(torch.nn.Linear(1, 1), tmp_path))


def test_missing_tensor(tmp_path: Path) -> None:
    network = CamClassifier(LITE, 3)
    del network.classifier
    with pytest.raises(UserError, match=r"the tensor 'classifier.weight' is missing"):
        load_network(saved(network, tmp_path))
