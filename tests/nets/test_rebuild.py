import pytest
import torch

from pfit_ray.nets.affinitynet import AffinityNet
from pfit_ray.nets.classifier import CamClassifier
from pfit_ray.nets.deeplab import DeepLabV3Plus
from pfit_ray.nets.rebuild import rebuild_network
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
