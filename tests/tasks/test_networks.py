from pathlib import Path

import pytest
import torch

from pfit_ray.errors import UserError
from pfit_ray.nets.affinitynet import AffinityNet
from pfit_ray.nets.classifier import CamClassifier
from pfit_ray.nets.deeplab import DeepLabV3Plus
from pfit_ray.nets.weights import save_network
from pfit_ray.nets.zero_shot import ZeroShotClassifier
from pfit_ray.tasks.networks import load_network

LITE = "efficientnet_lite0"


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
