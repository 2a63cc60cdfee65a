import json
from pathlib import Path
from typing import Any

import pytest
import torch
from oracles.published_keys import published_keys, random_state
from safetensors import safe_open
from support.sentences import facts

from pfit_ray.cluster.resources import Cluster
from pfit_ray.config import RunConfig
from pfit_ray.config.load import validate
from pfit_ray.data.sources.item import Item
from pfit_ray.errors import UserError
from pfit_ray.nets.affinitynet import AffinityNet
from pfit_ray.nets.classifier import CamClassifier
from pfit_ray.nets.deeplab import DeepLabV3Plus
from pfit_ray.nets.networks import load_network
from pfit_ray.nets.weights import load_state, save_network
from pfit_ray.nets.zero_shot import ZeroShotClassifier
from pfit_ray.rundir.directory import Network, RunDirectory
from pfit_ray.rundir.manifest import write_manifest
from pfit_ray.rundir.review import MarkTable
from pfit_ray.train.provide import (
    check_networks,
    check_reviews,
    check_training_resources,
    given_network,
    provide_network,
)

LITE = {"name": "efficientnet_lite0", "weights": "package"}
ZERO_SHOT = {"cat": [281, 282], "cup": [504], "motorbike": [665, 670], "rocket": [657]}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(str(tmp_path / "run"))


def config(**sections: Any) -> RunConfig:
    """A run with four classes on a small backbone."""
    document: dict[str, Any] = {"output": "run", "data": {"source": "samples"}}
    for name in ("classifier", "affinitynet", "deeplab"):
        document[name] = {"backbone": LITE, **sections.pop(name, {})}
    return validate({**document, **sections})


def refusal(settings: RunConfig, run: RunDirectory, name: str) -> str:
    with pytest.raises(UserError) as caught:
        provide_network(settings, run, name)
    assert not Path(run.weights(name)).exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def from_file(network: str, path: Path) -> RunConfig:
    return config(**{network: {"source": "weights", "weights": str(path)}})


def test_weights_from_a_file(run: RunDirectory, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    network = CamClassifier("efficientnet_lite0", 4)
    path.write_bytes(save_network(network, {}))
    assert provide_network(from_file("classifier", path), run, "classifier") == {"source": "weights"}
    loaded = load_network(run.weights("classifier"))
    assert isinstance(loaded, CamClassifier)
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    with safe_open(run.weights("classifier"), "pt") as file:
        assert json.loads(file.metadata()["classes"]) == ["cat", "cup", "motorbike", "rocket"]


def test_weights_from_a_pytorch_file(run: RunDirectory, tmp_path: Path) -> None:
    network = DeepLabV3Plus("efficientnet_lite0", 5, group_norm=True)
    torch.save(network.state_dict(), tmp_path / "mine.pth")
    provide_network(from_file("deeplab", tmp_path / "mine.pth"), run, "deeplab")
    assert torch.equal(
        load_state(run.weights("deeplab"))[0]["backbone.conv_stem.weight"],
        network.state_dict()["backbone.conv_stem.weight"],
    )


def test_published_weights(run: RunDirectory, tmp_path: Path) -> None:
    published = random_state(published_keys("classifier", "resnet50", n_classes=4))
    torch.save(published, tmp_path / "ResNet50@Puzzle@optimal.pth")
    section = {"backbone": {"name": "resnet50"}, "source": "weights"}
    settings = config(classifier={**section, "weights": str(tmp_path / "ResNet50@Puzzle@optimal.pth")})
    check_networks(settings, ["classifier"])
    provide_network(settings, run, "classifier")
    loaded = load_network(run.weights("classifier"))
    assert torch.equal(loaded.state_dict()["classifier.weight"], published["classifier.weight"])


def test_weights_that_do_not_fit_are_refused(run: RunDirectory, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(save_network(CamClassifier("efficientnet_lite0", 3), {}))
    sentence = f"config: classifier.weights {path}: the file is for 3 classes, but the run has 4 (data.classes)"
    assert refusal(from_file("classifier", path), run, "classifier") == sentence


def test_zero_shot_classifier_of_another_run(run: RunDirectory, tmp_path: Path) -> None:
    settings = config(classifier={"source": "zero_shot", "zero_shot": ZERO_SHOT})
    provide_network(settings, run, "classifier")
    other = RunDirectory(str(tmp_path / "other"))
    provide_network(from_file("classifier", Path(run.weights("classifier"))), other, "classifier")
    assert Path(other.weights("classifier")).read_bytes() == Path(run.weights("classifier")).read_bytes()


def test_zero_shot_classifier(run: RunDirectory) -> None:
    settings = config(classifier={"source": "zero_shot", "zero_shot": ZERO_SHOT})
    assert provide_network(settings, run, "classifier") == {"source": "zero_shot"}
    network = load_network(run.weights("classifier"))
    assert isinstance(network, ZeroShotClassifier)
    assert [torch.nonzero(row).flatten().tolist() for row in network.membership] == list(ZERO_SHOT.values())


def test_zero_shot_with_an_index_that_does_not_exist(run: RunDirectory) -> None:
    settings = config(classifier={"source": "zero_shot", "zero_shot": {**ZERO_SHOT, "cup": [1000]}})
    assert "class 'cup': ImageNet index 1000" in refusal(settings, run, "classifier")


def test_training_without_examples(run: RunDirectory) -> None:
    write_manifest(run, "train", iter([Item("a", "a.jpg", ()), Item("b", "b.jpg", reason="no_label")]), shard_size=2)
    assert refusal(config(), run, "classifier").startswith("classifier cannot be trained: no image has ")


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        (
            {"deeplab": {"source": "weights", "weights": "nowhere.safetensors"}},
            ["deeplab.weights", "'nowhere.safetensors'"],
        ),
        (
            {"affinitynet": {"backbone": {**LITE, "weights": "nowhere.safetensors"}}},
            ["affinitynet.backbone.weights", "'nowhere.safetensors'"],
        ),
        (
            {"classifier": {"backbone": {"name": "resnet50", "weights": "package"}}},
            ["classifier.backbone"],
        ),
        (
            {"resources": {"train": {"workers": 3}}},
            ["classifier.train.batch_size", "32", "resources.train.workers", "3"],
        ),
    ],
)
def test_mistakes_that_are_told_before_any_work(sections: dict, told: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        check_networks(config(**sections), ["classifier", "affinitynet", "deeplab"])
    assert facts(caught.value) == told


def test_only_networks_that_are_to_be_provided_are_checked(tmp_path: Path) -> None:
    settings = config(deeplab={"source": "weights", "weights": "nowhere.safetensors"})
    check_networks(settings, ["classifier", "affinitynet"])
    path = tmp_path / "here.safetensors"
    path.write_bytes(save_network(DeepLabV3Plus("efficientnet_lite0", 5), {}))
    check_networks(from_file("deeplab", path), ["deeplab"])


def test_misfits_of_files_are_told_before_any_work(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(save_network(AffinityNet("resnet18"), {}))
    with pytest.raises(UserError, match=r"^config: affinitynet\.weights .* on resnet18, but affinitynet\.backbone"):
        check_networks(from_file("affinitynet", path), ["classifier", "affinitynet"])
    settings = config(deeplab={"backbone": {**LITE, "weights": str(path)}})
    with pytest.raises(UserError, match=r"^config: deeplab\.backbone\.weights: .*other\.safetensors: .* belong to an"):
        check_networks(settings, ["deeplab"])


@pytest.mark.parametrize(
    ("train", "sentence"),
    [
        (
            {"gpus_per_worker": 1},
            "1 worker(s) of 1 CPUs and 1 GPUs do not fit into the cluster's 1 node(s) with 2 CPUs",
        ),
        (
            {"cpus_per_worker": 3},
            "1 worker(s) of 3 CPUs and 0 GPUs do not fit into the cluster's 1 node(s) with 2 CPUs",
        ),
        ({"workers": 3, "cpus_per_worker": 1}, "3 worker(s) of 1 CPUs and 0 GPUs do not fit"),
    ],
)
def test_trainings_that_do_not_fit(train: dict, sentence: str) -> None:
    settings = config(classifier={"source": "zero_shot", "zero_shot": ZERO_SHOT}, resources={"train": train})
    with pytest.raises(UserError, match=r"^resources\.train\.workers: ") as caught:
        check_training_resources(settings, ["classifier", "deeplab"], Cluster.of_one_node(2))
    assert sentence in str(caught.value)
    check_training_resources(settings, ["classifier"], Cluster.of_one_node(2))


def test_a_training_by_marks_needs_them_before_any_work(run: RunDirectory, tmp_path: Path) -> None:
    settings = config(deeplab={"train": {"review": "no_complaints"}})
    check_reviews(settings, run, ["classifier", "affinitynet"])
    with pytest.raises(UserError, match=r"deeplab.train.review is 'no_complaints', .* has no marks"):
        check_reviews(settings, run, ["deeplab"])
    given = {"source": "weights", "weights": "a", "train": {"review": "accepted"}}
    check_reviews(config(deeplab=given), run, ["deeplab"])
    MarkTable(run).set("a", "accept")
    check_reviews(settings, run, ["deeplab"])


LITE_GIVEN = "efficientnet_lite0"
NAMES = ["cat", "cup", "motorbike", "rocket"]


def given_config(name: Network, path: Path, backbone: str = LITE_GIVEN, **section: Any) -> RunConfig:
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


def file_refusal(name: Network, path: Path, backbone: str = LITE_GIVEN) -> str:
    with pytest.raises(UserError) as caught:
        given_network(given_config(name, path, backbone), name)
    beginning = f"config: {name}.weights {path}: "
    assert str(caught.value).startswith(beginning)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(beginning)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("classifier", lambda: CamClassifier(LITE_GIVEN, 4)),
        ("classifier", lambda: ZeroShotClassifier(LITE_GIVEN, 4, n_rows=9)),
        ("affinitynet", lambda: AffinityNet(LITE_GIVEN)),
        ("deeplab", lambda: DeepLabV3Plus(LITE_GIVEN, 5)),
        ("deeplab", lambda: DeepLabV3Plus(LITE_GIVEN, 5, group_norm=False)),
    ],
)
def test_our_own_files(name: Network, make: Any, tmp_path: Path) -> None:
    network = make()
    path = ours(tmp_path / "mine.safetensors", network)
    assert_equal(given_network(given_config(name, path), name), network)


def test_file_without_metadata(tmp_path: Path) -> None:
    network = CamClassifier(LITE_GIVEN, 4)
    torch.save(network.state_dict(), tmp_path / "mine.pth")
    assert_equal(given_network(given_config("classifier", tmp_path / "mine.pth"), "classifier"), network)


@pytest.mark.parametrize("name", ["classifier", "affinitynet", "deeplab"])
def test_published_checkpoints(name: Network, tmp_path: Path) -> None:
    path = tmp_path / "ResNet50@Puzzle@optimal.pth"
    published = random_state(published_keys(name, "resnet50", n_classes=4))
    torch.save(published, path)
    state = given_network(given_config(name, path, "resnet50"), name).state_dict()
    assert torch.equal(state["backbone.layer3.5.bn2.bias"], published["stage4.0.5.bn2.bias"])


def test_published_checkpoints_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "ResNet50@Puzzle@optimal.pth"
    torch.save(random_state(published_keys("classifier", "resnet50")), path)
    assert (
        file_refusal("classifier", path, "resnet50") == "the file is for 20 classes, but the run has 4 (data.classes)"
    )
    assert (
        file_refusal("classifier", path, "resnet101") == "the checkpoint holds a network on resnet50, not on resnet101"
    )
    assert file_refusal("deeplab", path, "resnet50") == "the checkpoint holds the network classifier, not deeplab"


def test_other_networks(tmp_path: Path) -> None:
    path = ours(tmp_path / "w", CamClassifier(LITE_GIVEN, 4))
    wrong = "the file holds a network CamClassifier, not DeepLabV3Plus"
    assert file_refusal("deeplab", path) == wrong
    assert file_refusal("classifier", ours(tmp_path / "w", AffinityNet(LITE_GIVEN))) == (
        "the file holds a network AffinityNet, not CamClassifier or ZeroShotClassifier"
    )
    assert file_refusal("affinitynet", ours(tmp_path / "w", torch.nn.Linear(1, 1))).startswith(
        "the file holds a network Linear, not AffinityNet"
    )


def test_other_backbones(tmp_path: Path) -> None:
    path = ours(tmp_path / "w", AffinityNet("resnet18"))
    assert file_refusal("affinitynet", path) == (
        "the file holds a network on resnet18, but affinitynet.backbone.name is efficientnet_lite0; set it to "
        "resnet18, or choose another file"
    )
    tagged = given_config("affinitynet", path, "resnet18.tv_in1k")
    assert isinstance(given_network(tagged, "affinitynet"), AffinityNet)
    torch.save(AffinityNet("resnet18").state_dict(), tmp_path / "bare.pth")
    assert file_refusal("affinitynet", tmp_path / "bare.pth").startswith(
        "the file: the weights belong to another network than AffinityNet on tf_efficientnet_lite0: "
    )


def test_unknown_backbone(tmp_path: Path) -> None:
    path = ours(tmp_path / "w", AffinityNet("resnet18"))
    with pytest.raises(UserError, match=r"^config: affinitynet\.backbone\.name: unknown backbone 'resnet19'"):
        given_network(given_config("affinitynet", path, "resnet19"), "affinitynet")


def test_other_numbers_of_classes(tmp_path: Path) -> None:
    path = ours(tmp_path / "w", CamClassifier(LITE_GIVEN, 3))
    assert file_refusal("classifier", path) == "the file is for 3 classes, but the run has 4 (data.classes)"
    path = ours(tmp_path / "w", DeepLabV3Plus(LITE_GIVEN, 4))
    assert file_refusal("deeplab", path) == "the file is for 3 classes and background, but the run has 4 (data.classes)"


def test_classes_in_another_order(tmp_path: Path) -> None:
    path = ours(tmp_path / "w", CamClassifier(LITE_GIVEN, 4), ["cup", "cat", "motorbike", "rocket"])
    assert file_refusal("classifier", path) == (
        "class 'cup' has the id 1 in the file, but 2 in data.classes; give data.classes the order of the file"
    )


@pytest.mark.parametrize("names", [["kitten", "mug", "motorbike", "rocket"], [], "cat", {"cat": 1}, [1, 2, 3, 4]])
def test_class_names_that_do_not_contradict(names: Any, tmp_path: Path) -> None:
    path = ours(tmp_path / "w", CamClassifier(LITE_GIVEN, 4), names)
    assert isinstance(given_network(given_config("classifier", path), "classifier"), CamClassifier)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "none.pth"
    with pytest.raises(UserError) as caught:
        given_network(given_config("deeplab", path), "deeplab")
    assert facts(caught.value) == ["deeplab.weights", f"'{path}'"]
    with pytest.raises(UserError) as caught:
        given_network(given_config("deeplab", tmp_path), "deeplab")
    assert str(caught.value) == f"config: deeplab.weights {tmp_path} cannot be read: Is a directory"
    path.write_bytes(b"<!DOCTYPE html>")
    assert file_refusal("deeplab", path) == "this is neither a safetensors file nor a PyTorch state dict"
