import hashlib
import json
import re
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from oracles.published_keys import published_keys, random_state
from oracles.published_networks import SplitAttention, published_network
from support.golden import array, assert_close_to_maximum, cases, checkpoint

from pfit_ray.constants import VOC_CLASSES
from pfit_ray.errors import UserError
from pfit_ray.nets.backbones import create_backbone, pyramid
from pfit_ray.nets.classifier import CamClassifier
from pfit_ray.nets.networks import load_network, rebuild_network
from pfit_ray.nets.published import (
    PUBLISHED_BACKBONES,
    PUBLISHED_CLASSES,
    Imported,
    convert_published,
    identify_backbone,
    import_checkpoint,
    is_published,
    rename_published,
)
from pfit_ray.nets.weights import load_into, load_state, save_network

NETWORKS = list(PUBLISHED_CLASSES)
IN_CI = [
    ("affinitynet", "resnest50"),
    ("deeplab", "resnest50"),
    ("classifier", "resnet152"),
    ("classifier", "resnest269"),
]
"""Blocks of either kind with all heads, and the deepest of either."""
NIGHTLY = [
    (network, backbone)
    for network in NETWORKS
    for backbone in PUBLISHED_BACKBONES
    if backbone not in ("resnet50", "resnest101") and (network, backbone) not in [*IN_CI, ("classifier", "resnest50")]
]


def is_deep(file):
    return "resnet50" not in file.name


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


@pytest.mark.parametrize("file", cases("nets/classifier_*.npz", slow=is_deep))
@torch.no_grad()
def test_golden_classifier(file):
    ours, oracle = both_networks(file)
    expected = array(file)
    for maps in (ours(image()), oracle(image())):
        assert_close_to_maximum(maps.numpy(), expected["features"])
        assert_close_to_maximum(ours.logits(maps).numpy(), expected["logits"])
    for levels in (pyramid(ours.backbone, image()), oracle.levels(image())):
        assert_close_to_maximum(levels[-1][:, ::16].numpy(), expected["stage5"])


@pytest.mark.parametrize("file", cases("nets/affinitynet_*.npz", slow=is_deep))
@torch.no_grad()
def test_golden_affinitynet(file):
    for network in both_networks(file):
        assert_close_to_maximum(network(image()).numpy(), array(file)["edge_logits"])


@pytest.mark.parametrize("file", cases("nets/affinitynet_*.npz", slow=is_deep))
@torch.no_grad()
def test_golden_edges_of_an_image_and_its_mirror(file):
    pair = torch.from_numpy(array("nets/input_2x3x96x128_imgflip.npy"))
    network, _ = both_networks(file)
    logits = network(F.pad(pair, (0, 384, 0, 416)))[:, :, :24, :32]
    edge = torch.sigmoid(logits[0] / 2 + logits[1].flip(-1) / 2)
    assert_close_to_maximum(edge.numpy(), array(file)["get_edge"])


@pytest.mark.parametrize("file", cases("nets/deeplab_*.npz", slow=is_deep))
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


def test_a_backbone_that_is_not_in_golden():
    assert_as_the_oracle("classifier", "resnest50")


@pytest.mark.slow
@pytest.mark.parametrize(("network", "backbone"), IN_CI)
def test_deep_backbones_and_other_heads(network, backbone):
    assert_as_the_oracle(network, backbone)


@pytest.mark.nightly
@pytest.mark.parametrize(("network", "backbone"), NIGHTLY)
def test_all_other_backbones(network, backbone):
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
    assert refusal(plain).startswith("this is not a checkpoint of the published programs: none of its tensors")


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


def write(path: Path, network: str, n_classes: int = 20) -> dict[str, torch.Tensor]:
    state = random_state(published_keys(network, "resnet50", n_classes))
    torch.save(state, path)
    return state


@pytest.fixture(scope="module")
def published_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published classifier of 20 classes on ResNet-50."""
    path = tmp_path_factory.mktemp("published") / "classifier.pth"
    write(path, "classifier")
    return path


@pytest.mark.parametrize(
    ("network", "n_parameters", "n_classes"),
    [("classifier", 23_548_992, 20), ("affinitynet", 23_633_441, None), ("deeplab", 40_352_181, 20)],
)
@torch.no_grad()
def test_import(network: str, n_parameters: int, n_classes: int | None, tmp_path: Path) -> None:
    published = write(tmp_path / "in.pth", network)
    output = tmp_path / "out.safetensors"
    imported = import_checkpoint(str(tmp_path / "in.pth"), network, "resnet50", str(output))
    names = VOC_CLASSES if n_classes else ()
    digest = hashlib.sha256(output.read_bytes()).hexdigest()
    assert imported == Imported(str(output), digest, network, "resnet50", n_parameters, n_classes, names)
    x = torch.randn(1, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    expected = published_network(network, "resnet50", published)(x)
    torch.testing.assert_close(load_network(str(output))(x), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
    _, metadata = load_state(output)
    assert metadata.get("classes") == (json.dumps(names) if names else None)


def test_description() -> None:
    imported = Imported("out", "5eed", "classifier", "resnest101", 46_270_016, 20, VOC_CLASSES)
    assert imported.describe() == (
        "out: classifier on resnest101, 46,270,016 parameters, 20 classes (aeroplane ... tvmonitor), sha256 5eed"
    )
    assert "parameters, 3 classes without names, sha256" in imported._replace(n_classes=3, names=()).describe()
    assert "parameters, no classes, sha256" in imported._replace(n_classes=None, names=()).describe()


def test_names_of_classes(tmp_path: Path) -> None:
    write(tmp_path / "in.pth", "classifier", n_classes=2)
    words = (str(tmp_path / "in.pth"), "classifier", "resnet50", str(tmp_path / "out.safetensors"))
    assert import_checkpoint(*words)[-2:] == (2, ())
    assert "classes" not in load_state(tmp_path / "out.safetensors")[1]
    assert import_checkpoint(*words, classes=["cat", "dog"])[-2:] == (2, ("cat", "dog"))
    assert json.loads(load_state(tmp_path / "out.safetensors")[1]["classes"]) == ["cat", "dog"]
    with pytest.raises(UserError, match=r"in\.pth: the checkpoint is for 2 classes, but --classes names 1$"):
        import_checkpoint(*words, classes=["cat"])
    with pytest.raises(UserError, match=r"in\.pth: class 'cat'"):
        import_checkpoint(*words, classes=["cat", "cat"])


def test_an_affinitynet_has_no_classes(tmp_path: Path) -> None:
    write(tmp_path / "in.pth", "affinitynet")
    with pytest.raises(UserError, match=r"an AffinityNet knows no classes; leave --classes out$"):
        import_checkpoint(str(tmp_path / "in.pth"), "affinitynet", "resnet50", str(tmp_path / "out"), classes=["cat"])


def test_from_and_to_object_stores(published_file: Path) -> None:
    with fsspec.open("memory://weights/in.pth", "wb") as file:
        file.write(published_file.read_bytes())
    output = "memory://weights/out.safetensors"
    assert import_checkpoint("memory://weights/in.pth", "classifier", "resnet50", output).url == output
    assert isinstance(load_network(output), CamClassifier)


def import_refusal(source: Path, network: str = "classifier", backbone: str = "resnet50", output: Any = None) -> str:
    target = source.with_name("out.safetensors") if output is None else output
    with pytest.raises(UserError) as caught:
        import_checkpoint(str(source), network, backbone, str(target))
    assert output is not None or not target.exists()
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{source}", "FILE")


@pytest.mark.parametrize(
    ("network", "backbone", "sentence"),
    [
        (
            "classifier",
            "resnet101",
            "FILE: the checkpoint holds a network on resnet50, not on resnet101",
        ),
        (
            "classifier",
            "resnest101",
            "FILE: the checkpoint holds a network on resnet50, not on resnest101",
        ),
        ("deeplab", "resnet50", "FILE: the checkpoint holds the network classifier, not deeplab"),
        ("unet", "resnet50", "--network unet: choose from classifier, affinitynet, deeplab"),
        ("classifier", "resnext", "FILE: unknown backbone 'resnext': did you mean "),
    ],
)
def test_wrong_words(published_file: Path, network: str, backbone: str, sentence: str) -> None:
    assert import_refusal(published_file, network, backbone).startswith(sentence)


class Intruder:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("code was run",)


def test_files_that_are_no_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "in.pth"
    assert import_refusal(path) == "FILE: there is no such file"
    assert import_refusal(tmp_path, output=path) == "FILE cannot be read: Is a directory"
    path.write_bytes(b"<!DOCTYPE html>")
    assert import_refusal(path) == "FILE: this is neither a safetensors file nor a PyTorch state dict"
    torch.save({"model.conv1.weight": torch.zeros(1), "optimizer": Intruder()}, path)
    # Where Ray runs, it has put a function of its own in the place of print.
    assert re.match(
        r"FILE: the PyTorch file pickles \S*print besides tensors, which is refused, ", import_refusal(path)
    )
    torch.save({"conv1.weight": torch.zeros(1)}, path)
    assert import_refusal(path).startswith("FILE: this is not a checkpoint of the published programs: ")
    path.write_bytes(path.read_bytes()[:-100])
    assert import_refusal(path).startswith("FILE: the PyTorch file is damaged or cut off ")
    path.write_bytes(save_network(CamClassifier("resnet18", 2), {}))
    assert import_refusal(path) == (
        "FILE: the file is in this package's own format already; name it in the config's classifier.weights, "
        "affinitynet.weights or deeplab.weights"
    )
    assert capsys.readouterr().out == ""


def test_outputs_that_cannot_be_written(published_file: Path, tmp_path: Path) -> None:
    assert (
        import_refusal(published_file, output=published_file)
        == "--output FILE is the checkpoint itself; choose another file"
    )
    assert import_refusal(published_file, output=tmp_path) == f"{tmp_path} cannot be written: Is a directory"
    (tmp_path / "file").write_text("")
    below = tmp_path / "file" / "out.safetensors"
    assert import_refusal(published_file, output=below).startswith(
        f"{below}: a part of this path is a file, not a folder"
    )
