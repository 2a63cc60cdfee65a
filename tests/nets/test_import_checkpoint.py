import hashlib
import json
import re
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from oracles.published_keys import published_keys, random_state
from oracles.published_networks import published_network

from pfit_ray.constants import VOC_CLASSES
from pfit_ray.errors import UserError
from pfit_ray.nets.classifier import CamClassifier
from pfit_ray.nets.import_checkpoint import Imported, import_checkpoint
from pfit_ray.nets.weights import load_state, save_network
from pfit_ray.tasks.network_stage import load_network


def write(path: Path, network: str, n_classes: int = 20) -> dict[str, torch.Tensor]:
    state = random_state(published_keys(network, "resnet50", n_classes))
    torch.save(state, path)
    return state


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
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
    with pytest.raises(UserError, match=r"in\.pth: class 'cat' stands twice in the class list$"):
        import_checkpoint(*words, classes=["cat", "cat"])


def test_an_affinitynet_has_no_classes(tmp_path: Path) -> None:
    write(tmp_path / "in.pth", "affinitynet")
    with pytest.raises(UserError, match=r"an AffinityNet knows no classes; leave --classes out$"):
        import_checkpoint(str(tmp_path / "in.pth"), "affinitynet", "resnet50", str(tmp_path / "out"), classes=["cat"])


def test_from_and_to_object_stores(classifier: Path) -> None:
    with fsspec.open("memory://weights/in.pth", "wb") as file:
        file.write(classifier.read_bytes())
    output = "memory://weights/out.safetensors"
    assert import_checkpoint("memory://weights/in.pth", "classifier", "resnet50", output).url == output
    assert isinstance(load_network(output), CamClassifier)


def refusal(source: Path, network: str = "classifier", backbone: str = "resnet50", output: Any = None) -> str:
    target = source.with_name("out.safetensors") if output is None else output
    with pytest.raises(UserError) as caught:
        import_checkpoint(str(source), network, backbone, str(target))
    assert output is not None or not target.exists()
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{source}", "FILE")


@pytest.mark.parametrize(
    ("network", "backbone", "sentence"),
    [
        ("classifier", "resnet101", "FILE: the checkpoint holds a network on resnet50, not on resnet101"),
        ("classifier", "resnest101", "FILE: the checkpoint holds a network on resnet50, not on resnest101"),
        ("deeplab", "resnet50", "FILE: the checkpoint holds the network classifier, not deeplab"),
        ("unet", "resnet50", "--network unet: choose from classifier, affinitynet, deeplab"),
        ("classifier", "resnext", "FILE: unknown backbone 'resnext': did you mean "),
    ],
)
def test_wrong_words(classifier: Path, network: str, backbone: str, sentence: str) -> None:
    assert refusal(classifier, network, backbone).startswith(sentence)


class Intruder:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("code was run",)


def test_files_that_are_no_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "in.pth"
    assert refusal(path) == "FILE: there is no such file"
    assert refusal(tmp_path, output=path) == "FILE cannot be read: Is a directory"
    path.write_bytes(b"<!DOCTYPE html>")
    assert refusal(path) == "FILE: this is neither a safetensors file nor a PyTorch state dict"
    torch.save({"model.conv1.weight": torch.zeros(1), "optimizer": Intruder()}, path)
    # Where Ray runs, it has put a function of its own in the place of print.
    assert re.match(r"FILE: the PyTorch file pickles \S*print besides tensors, which is refused, ", refusal(path))
    torch.save({"conv1.weight": torch.zeros(1)}, path)
    assert refusal(path).startswith("FILE: this is no checkpoint of the published programs: ")
    path.write_bytes(path.read_bytes()[:-100])
    assert refusal(path).startswith("FILE: the PyTorch file is damaged or cut off ")
    path.write_bytes(save_network(CamClassifier("resnet18", 2), {}))
    assert refusal(path) == (
        "FILE: the file is in this package's own format already; name it in the config's classifier.weights, "
        "affinitynet.weights or deeplab.weights"
    )
    assert capsys.readouterr().out == ""


def test_outputs_that_cannot_be_written(classifier: Path, tmp_path: Path) -> None:
    assert refusal(classifier, output=classifier) == "--output FILE is the checkpoint itself; give another place"
    assert refusal(classifier, output=tmp_path) == f"{tmp_path} cannot be written: Is a directory"
    (tmp_path / "file").write_text("")
    below = tmp_path / "file" / "out.safetensors"
    assert refusal(classifier, output=below).startswith(f"{below}: a part of this path is a file, not a folder")
