import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from pfit_ray.nets.classifier import CamClassifier
from pfit_ray.nets.deeplab import DeepLabV3Plus
from pfit_ray.nets.weights import (
    fit_state,
    load_into,
    load_state,
    load_torch_file,
    misfits,
    read_state,
    save_network,
    summarise,
)


def small_network(n_classes=2, backbone="resnet18"):
    return CamClassifier(backbone, n_classes).eval()


@pytest.fixture(scope="module")
def network():
    return small_network()


def torch_file(content):
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def test_round_trip(network, tmp_path):
    data = save_network(network, {"classes": "cat,dog"})
    (tmp_path / "w.safetensors").write_bytes(data)
    for source in (data, tmp_path / "w.safetensors", str(tmp_path / "w.safetensors")):
        state, metadata = load_state(source)
        assert metadata == {"network": "CamClassifier", "backbone": "resnet18", "classes": "cat,dog"}
    other = small_network()
    load_into(other, state, "w.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))


def test_the_same_network_gives_the_same_bytes(network):
    assert save_network(network, {}) == save_network(network, {})


def test_torch_files():
    state, metadata = load_state(torch_file({"a": torch.tensor([1.0])}))
    assert metadata == {}
    assert state["a"].tolist() == [1.0]


def test_prefix_of_data_parallel():
    tensors = {"module.a": torch.zeros(1), "module.module.b": torch.ones(1)}
    for data in (torch_file({"state_dict": tensors}), safetensors.torch.save(tensors)):
        assert sorted(load_state(data)[0]) == ["a", "module.b"]
    mixed = {"module.a": torch.zeros(1), "b": torch.ones(1)}
    assert list(load_state(torch_file(mixed))[0]) == ["module.a", "b"]


def test_safetensors_whose_length_looks_like_a_pickle():
    for padding in range(640):
        data = safetensors.torch.save({"a": torch.zeros(1)}, metadata={"note": "x" * padding})
        if data.startswith(b"\x80\x02"):
            break
    assert data.startswith(b"\x80\x02")
    assert load_state(data)[0]["a"].tolist() == [0.0]


def test_refused_files(tmp_path):
    with pytest.raises(ValueError, match=r"^the PyTorch file holds a list"):
        load_state(torch_file([torch.zeros(1)]))
    with pytest.raises(ValueError, match="neither a safetensors file nor a PyTorch state dict"):
        load_state(b"")
    (tmp_path / "w.h5").write_bytes(b"\x89HDF\r\n\x1a\n....")
    with pytest.raises(ValueError, match=r"w\.h5': this is neither a safetensors file"):
        load_state(tmp_path / "w.h5")
    with pytest.raises(ValueError, match=r"absent\.pth' cannot be read: No such file"):
        load_state(tmp_path / "absent.pth")


def test_truncated_files(network):
    for data in (save_network(network, {}), torch_file({"a": torch.zeros(1000)})):
        for length in (9, 50, len(data) // 2, len(data) - 1):
            with pytest.raises(ValueError, match=r"damaged|neither"):
                load_state(data[:length])


def test_misfits(network):
    state = network.state_dict()
    with pytest.raises(ValueError, match="w: the weights are for 2 classes, but CamClassifier on resnet18 has 5"):
        load_into(small_network(5), state, "w")
    with pytest.raises(ValueError, match=r"another network than CamClassifier on resnet34: 'backbone.layer1.2"):
        load_into(small_network(backbone="resnet34"), state, "w")
    without = {name: tensor for name, tensor in state.items() if name != "classifier.weight"}
    with pytest.raises(ValueError, match=r"CamClassifier on resnet18: 'classifier.weight' is missing$"):
        load_into(small_network(), without, "w")
    with pytest.raises(ValueError, match="'extra' has no place in it"):
        load_into(small_network(), {**state, "extra": torch.zeros(1)}, "w")
    with pytest.raises(ValueError, match=r"'backbone.bn1.bias' has shape \(3,\) instead of \(64,\)"):
        load_into(small_network(), {**state, "backbone.bn1.bias": torch.zeros(3)}, "w")


def test_other_numbers_of_classes():
    state = DeepLabV3Plus("resnet18", 5).state_dict()
    with pytest.raises(ValueError, match=r"^w: the weights are for 5 classes, but DeepLabV3Plus on resnet18 has 3$"):
        load_into(DeepLabV3Plus("resnet18", 3), state, "w")
    with pytest.raises(ValueError, match=r"'decoder.classifier.bias' has shape \(3,\) instead of \(5,\)$"):
        load_into(DeepLabV3Plus("resnet18", 5), {**state, "decoder.classifier.bias": torch.zeros(3)}, "w")


def test_misfits_are_named_as_asked():
    wanted, given = {"a": torch.zeros(2), "b": torch.zeros(2)}, {"a": torch.zeros(2, 1), "c": torch.zeros(1)}
    found = misfits(wanted, given, str.upper)
    assert found == ["'A' has shape (2, 1) instead of (2,)", "'B' is missing", "'C' has no place in it"]
    assert summarise(found) == "'A' has shape (2, 1) instead of (2,) (and 2 more)"
    assert summarise(found[1:2]) == "'B' is missing"


TENSORS = {"a": torch.arange(1000.0), "b": torch.tensor(3)}


def saved(content, **options):
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def assert_read(data):
    state = load_torch_file(data)
    assert list(state) == ["a", "b"]
    assert torch.equal(state["a"], TENSORS["a"])
    assert state["b"].item() == 3


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize(
    "content",
    [TENSORS, OrderedDict(TENSORS), {"state_dict": TENSORS}, {"model": OrderedDict(TENSORS)}],
    ids=["plain", "ordered", "state_dict", "model"],
)
def test_mappings_of_names_to_tensors(content, legacy):
    assert_read(saved(content, _use_new_zipfile_serialization=not legacy))


def test_parameters_and_views_are_tensors():
    parameter = torch.nn.Parameter(torch.ones(2))
    state = load_torch_file(saved({"p": parameter, "view": parameter.detach()[1:]}))
    assert not state["p"].requires_grad
    assert state["view"].tolist() == [1.0]


class Intruder:
    def __reduce__(self):
        return (exec, ("print('code was run')",))  # not print itself, which Ray replaces


def refusal(data):
    with pytest.raises(ValueError, match=r"\w") as caught:
        load_torch_file(data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("legacy", [True, False])
def test_what_a_file_pickles_is_named_and_not_run(legacy, capsys):
    options = {"_use_new_zipfile_serialization": not legacy}
    remedy = "; where it was made, save its tensors alone: torch.save(model.state_dict(), 'weights.pth')"
    assert refusal(saved({**TENSORS, "c": Intruder()}, **options)) == (
        "the PyTorch file pickles exec besides tensors, which is refused, because it could run code" + remedy
    )
    assert "pickles torch.nn.modules.linear.Linear besides" in refusal(saved(torch.nn.Linear(1, 1), **options))
    assert "_reconstruct besides tensors" in refusal(saved({"a": np.zeros(2)}, **options))
    assert refusal(pickle.dumps(Intruder(), protocol=2)).startswith("the PyTorch file pickles exec ")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({**TENSORS, "note": "hello"}, "'note' is of type str; save its tensors alone"),
        ({1: torch.zeros(1)}, "its entry 1 is of type Tensor"),
    ],
)
def test_other_things_than_tensors(content, sentence):
    message = refusal(saved(content))
    assert message.startswith("the PyTorch file must hold one flat mapping of names to tensors, but its entry ")
    assert sentence in message


def test_no_mapping():
    assert refusal(saved([torch.zeros(1)])) == ("the PyTorch file holds a list, not a flat mapping of names to tensors")


@pytest.mark.parametrize("legacy", [True, False])
def test_cut_files(legacy):
    data = saved(TENSORS, _use_new_zipfile_serialization=not legacy)
    for length in (9, 50, len(data) // 2, len(data) - 1):
        assert "damaged" in refusal(data[:length])


def test_one_changed_bit():
    data = bytearray(saved(TENSORS))
    data[data.index(struct.pack("<2f", 500, 501))] ^= 1
    assert refusal(bytes(data)).startswith("the PyTorch file is damaged: the checksum of its member ")


def zip_file(*names):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, "text")
    return stream.getvalue()


def test_other_zip_files():
    assert refusal(zip_file("word/document.xml")) == "this is a zip archive, but not one that PyTorch wrote"
    program = zip_file("net/data.pkl", "net/constants.pkl", "net/code/forward.py")
    assert refusal(program).startswith("this is a TorchScript program, which is refused; save its tensors alone")


STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(2)}
OTHER = {name: tensor + 1 for name, tensor in STATE.items()}
OPTIMISER = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}


def prefixed(prefix: str, state: dict[str, torch.Tensor] = STATE) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("content", "entry"),
    [
        (STATE, None),
        ({"state_dict": STATE, "epoch": 3}, None),
        ({"epoch": 3, "arch": "x", "model": prefixed("module."), "optimizer": OPTIMISER, "best": 0.5}, None),
        ({"model": {"state_dict": STATE, "epoch": 1}}, None),
        ({"ema": prefixed("_orig_mod.module."), "updates": 7}, None),
        ({"teacher": prefixed("model."), "epoch": 3}, None),
        (prefixed("_orig_mod."), None),
        (prefixed("model."), None),
        ({"my_weights": STATE, "epoch": 3}, None),
        ({"state_dict": STATE, "criterion": {"weight": torch.ones(3)}}, None),
        ({"student": OTHER, "teacher": STATE}, "teacher"),
        ({"model": OTHER, "model_ema": STATE, "epoch": 3}, "model_ema"),
        ({"nets": {"online": OTHER, "target": STATE}}, "nets.target"),
    ],
)
def test_checkpoints_of_training_programs(content: Any, entry: str | None) -> None:
    state, _ = load_state(torch_file(content), entry)
    assert state.keys() == STATE.keys()
    assert all(torch.equal(state[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize(
    ("content", "entry", "told"),
    [
        ({"student": OTHER, "teacher": STATE}, None, r"student, teacher; .*#student"),
        ({"state_dict": OTHER, "state_dict_ema": STATE}, None, "state_dict, state_dict_ema"),
        ({"a": OTHER, "b": STATE}, None, "a, b"),
        ({"student": OTHER}, "teacher", "no state dict 'teacher', only 'student'"),
        ({"epoch": 3, "optimizer": OPTIMISER}, None, "'epoch' is of type int"),
        ({}, None, "no tensors"),
    ],
)
def test_a_checkpoint_of_several_networks_or_none_is_refused(content: Any, entry: str | None, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        load_state(torch_file(content), entry)


def test_an_entry_is_named_at_the_end_of_the_path(tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(torch_file({"student": OTHER, "teacher": STATE}))
    assert torch.equal(read_state(f"{tmp_path}/x.pth#teacher")[0]["a.weight"], STATE["a.weight"])
    (tmp_path / "x.pth#teacher").write_bytes(torch_file(OTHER))  # a file of that very name
    assert torch.equal(read_state(f"{tmp_path}/x.pth#teacher")[0]["a.weight"], OTHER["a.weight"])


@pytest.mark.parametrize("prefix", ["", "module.", "encoder.", "net.backbone."])
def test_weights_of_before_the_counters_of_batches(prefix: str) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    old = {prefix + name: tensor for name, tensor in network.state_dict().items() if "num_batches" not in name}
    fitted = fit_state(network, old, "old")
    assert fitted.keys() == network.state_dict().keys()
    assert fitted["1.num_batches_tracked"].item() == 0
    with pytest.raises(ValueError, match=r"'1\.running_mean' is missing"):
        fit_state(network, {name: tensor for name, tensor in old.items() if "running_mean" not in name}, "old")
