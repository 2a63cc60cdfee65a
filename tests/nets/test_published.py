import json
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from oracles.published_keys import published_keys, random_state
from oracles.published_networks import SplitAttention, published_network
from support.golden import array, assert_close_to_maximum, cases, checkpoint

from pfit_ray.nets.backbones import create_backbone, pyramid
from pfit_ray.nets.published import (
    PUBLISHED_BACKBONES,
    PUBLISHED_CLASSES,
    convert_published,
    identify_backbone,
    is_published,
    rename_published,
)
from pfit_ray.nets.rebuild import rebuild_network
from pfit_ray.nets.weights import load_into

NETWORKS = list(PUBLISHED_CLASSES)
DEEP = ["resnet152", "resnest200", "resnest269"]
SHALLOW = [name for name in PUBLISHED_BACKBONES if name not in ("resnet50", "resnest101", *DEEP)]


def our_network(network, backbone, published):
    state = convert_published(published, network, backbone)
    ours = rebuild_network(PUBLISHED_CLASSES[network].__name__, backbone, state)
    load_into(ours, state, "converted")
    return ours.eval()


def both_networks(file):
    """Ours and the oracle, with the checkpoint of a golden file."""
    network, backbone = file.stem.split("_")
    published = checkpoint(network, backbone)
    return our_network(network, backbone, published), published_network(network, backbone, published)


def image():
    return torch.from_numpy(array("nets/input_1x3x128x128.npy"))


@pytest.mark.parametrize("file", cases("nets/*_keys.json"))
def test_key_list_of_the_oracle(file):
    network, backbone, _ = file.stem.split("_")
    assert [[name, shape] for name, shape in published_keys(network, backbone)] == json.loads(file.read_text())


@pytest.mark.parametrize("file", cases("nets/classifier_*.npz"))
@torch.no_grad()
def test_golden_classifier(file):
    ours, oracle = both_networks(file)
    expected = array(file)
    for maps in (ours(image()), oracle(image())):
        assert_close_to_maximum(maps.numpy(), expected["features"])
        assert_close_to_maximum(ours.logits(maps).numpy(), expected["logits"])
    for levels in (pyramid(ours.backbone, image()), oracle.levels(image())):
        assert_close_to_maximum(levels[-1][:, ::16].numpy(), expected["stage5"])


@pytest.mark.parametrize("file", cases("nets/affinitynet_*.npz"))
@torch.no_grad()
def test_golden_affinitynet(file):
    for network in both_networks(file):
        assert_close_to_maximum(network(image()).numpy(), array(file)["edge_logits"])


@pytest.mark.parametrize("file", cases("nets/affinitynet_*.npz", slow=lambda file: "resnet50" not in file.name))
@torch.no_grad()
def test_golden_edges_of_an_image_and_its_mirror(file):
    pair = torch.from_numpy(array("nets/input_2x3x96x128_imgflip.npy"))
    network, _ = both_networks(file)
    logits = network(F.pad(pair, (0, 384, 0, 416)))[:, :, :24, :32]
    edge = torch.sigmoid(logits[0] / 2 + logits[1].flip(-1) / 2)
    assert_close_to_maximum(edge.numpy(), array(file)["get_edge"])


@pytest.mark.parametrize("file", cases("nets/deeplab_*.npz"))
@torch.no_grad()
def test_golden_deeplab(file):
    for network in both_networks(file):
        assert_close_to_maximum(network(image())[:, :, ::2, ::2].numpy(), array(file)["logits"])


@torch.no_grad()
def assert_as_the_oracle(network, backbone):
    published = random_state(published_keys(network, backbone))
    x = torch.randn(1, 3, 65, 90, generator=torch.Generator().manual_seed(1))
    expected = published_network(network, backbone, published)(x)
    assert_close_to_maximum(our_network(network, backbone, published)(x).numpy(), expected.numpy())


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("backbone", SHALLOW)
def test_backbones_that_are_not_in_golden(network, backbone):
    assert_as_the_oracle(network, backbone)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", DEEP)
def test_deep_classifiers(backbone):
    assert_as_the_oracle("classifier", backbone)


@pytest.mark.nightly
@pytest.mark.parametrize("network", [name for name in NETWORKS if name != "classifier"])
@pytest.mark.parametrize("backbone", DEEP)
def test_deep_backbones(network, backbone):
    assert_as_the_oracle(network, backbone)


def test_the_oracle_of_split_attention_does_not_overflow():
    block = SplitAttention(planes=4, dilation=1).eval()
    torch.nn.init.zeros_(block.fc2.weight)
    block.fc2.bias.data = torch.tensor([1000.0] * 4 + [0.0] * 4)
    x = torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    first = F.relu(block.bn0(block.conv(x))).chunk(2, dim=1)[0]
    torch.testing.assert_close(block(x), first)


@pytest.mark.parametrize(
    "compare", [np.testing.assert_allclose, np.testing.assert_array_equal, assert_close_to_maximum]
)
def test_comparisons_refuse_nan_on_both_sides(compare):
    compare(np.ones(2), np.ones(2))
    with pytest.raises(AssertionError):
        compare(np.array([1, np.nan]), np.array([1, np.nan]))


@pytest.fixture(scope="module")
def classifier():
    return random_state(published_keys("classifier", "resnet50"))


@pytest.fixture(scope="module")
def deeplab():
    return random_state(published_keys("deeplab", "resnet50"))


def test_all_tensors_have_a_place_and_keep_their_values(classifier):
    ours = convert_published(classifier, "classifier", "resnet50")
    assert len(ours) == 319
    assert torch.equal(ours["backbone.layer4.2.conv3.weight"], classifier["stage5.0.2.conv3.weight"])
    assert torch.equal(ours["backbone.conv1.weight"], classifier["model.conv1.weight"])


@pytest.mark.parametrize("kept", ["model.", "stage"])
def test_one_name_of_a_tensor_suffices(classifier, kept):
    state = {name: tensor for name, tensor in classifier.items() if name.startswith((kept, "classifier."))}
    assert len(convert_published(state, "classifier", "resnet50")) == 319


def test_path_indices_are_left_out():
    assert rename_published({"path_indices_3": torch.zeros(1), "stage2.0.1.bn1.bias": torch.ones(1)}) == {
        "backbone.layer1.1.bn1.bias": torch.ones(1)
    }


def test_numbers_of_classes_follow_from_the_tensors(classifier):
    state = {**classifier, "classifier.weight": torch.zeros(3, 2048, 1, 1)}
    assert len(convert_published(state, "classifier", "resnet50")["classifier.weight"]) == 3


def test_deeplab_without_group_norm(deeplab):
    statistics = {
        f"{name.rpartition('.')[0]}.{kind}": torch.ones(len(tensor))
        if kind != "num_batches_tracked"
        else torch.tensor(0)
        for name, tensor in deeplab.items()
        if re.match(r"aspp.*(bn1?|pool\.2)\.weight|decoder\.(bn1|classifier\.[15])\.weight", name)
        for kind in ("running_mean", "running_var", "num_batches_tracked")
    }
    ours = convert_published({**deeplab, **statistics}, "deeplab", "resnet50")
    assert "decoder.refinement.2.norm.running_mean" in ours


@pytest.mark.parametrize(
    ("names", "published"),
    [
        (["model.layer1.0.conv1.weight"], True),
        (["backbone.0.0.weight"], True),
        (["aspp.aspp1.bn.bias"], True),
        (["stage2.0.3.bn1.weight"], True),
        (["conv1.weight", "layer1.0.conv1.weight", "fc.weight"], False),
        (["backbone.conv1.weight", "classifier.weight", "edge_heads.0.conv.weight"], False),
        (["backbone.layer1.0.conv1.weight", "aspp.branches.0.conv.weight", "decoder.classifier.weight"], False),
        (["stage2.0.branches.0.0.conv1.weight", "backbone.stages.0.0.weight"], False),
    ],
)
def test_published_names_are_known(names, published):
    assert is_published({name: torch.zeros(1) for name in names}) is published


@pytest.mark.parametrize("name", ["resnet50", "resnest50"])
def test_backbones_are_known_by_their_tensors(name):
    with torch.device("meta"):
        assert identify_backbone(create_backbone(name).state_dict()) == name


def refusal(state, network="classifier", backbone="resnet50"):
    with pytest.raises(ValueError, match=r"\w") as caught:
        convert_published(state, network, backbone)
    return str(caught.value)


def test_names_that_disagree(classifier):
    assert refusal({**classifier, "stage1.0.weight": classifier["stage1.0.weight"] + 1}) == (
        "the checkpoint holds two different values of one tensor, as 'model.conv1.weight' and 'stage1.0.weight'"
    )


def test_another_backbone(classifier):
    sentence = "the checkpoint holds a network on resnet50, not on resnest101"
    assert refusal(classifier, backbone="resnest101") == sentence
    assert refusal(classifier, backbone="resnest51").startswith("unknown backbone 'resnest51': did you mean ")


def test_another_network(classifier, deeplab):
    assert refusal(deeplab) == "the checkpoint holds the network deeplab, not classifier"
    assert refusal(classifier, "affinitynet") == "the checkpoint holds the network classifier, not affinitynet"
    trunk = {name: tensor for name, tensor in classifier.items() if name.startswith("model.")}
    assert refusal(trunk) == "the checkpoint holds a backbone alone, not classifier"
    assert refusal(classifier, "unet").startswith("unknown published network 'unet': choose from classifier, ")
    plain = {name.removeprefix("model."): tensor for name, tensor in trunk.items()}
    assert refusal(plain).startswith("this is no checkpoint of the published programs: none of its tensors")


def test_missing_tensors(classifier, deeplab):
    lost = ("model.layer4.2.conv3.weight", "stage5.0.2.conv3.weight", "model.bn1.bias", "stage1.1.bias")
    gone = {name: tensor for name, tensor in classifier.items() if name not in lost}
    assert refusal(gone) == (
        "the checkpoint does not fit classifier on resnet50: 'model.bn1.bias' is missing (and 1 more)"
    )
    without_last = {name: x for name, x in deeplab.items() if name != "decoder.classifier.8.weight"}
    assert refusal(without_last, "deeplab") == (
        "the last layer of deeplab is missing in the checkpoint: 'decoder.classifier.8.weight'"
    )


def test_tensors_without_a_place(classifier):
    surplus = {"extra": torch.zeros(1), "model.fc.weight": torch.zeros(1), "stage6.0.weight": torch.zeros(1)}
    assert refusal({**classifier, **surplus}) == (
        "the checkpoint does not fit classifier on resnet50: 'extra' has no place in it (and 2 more)"
    )


def test_tensors_of_another_shape(deeplab):
    assert refusal({**deeplab, "decoder.classifier.8.bias": torch.zeros(5)}, "deeplab") == (
        "the checkpoint does not fit deeplab on resnet50: 'decoder.classifier.8.bias' has shape (5,) instead of (21,)"
    )
