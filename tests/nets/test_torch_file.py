import io
import pickle
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch

from pfit_ray.nets.torch_file import load_torch_file

TENSORS = {"a": torch.arange(1000.0), "b": torch.tensor(3)}


def torch_file(content, **options):
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
    assert_read(torch_file(content, _use_new_zipfile_serialization=not legacy))


def test_parameters_and_views_are_tensors():
    parameter = torch.nn.Parameter(torch.ones(2))
    state = load_torch_file(torch_file({"p": parameter, "view": parameter.detach()[1:]}))
    assert not state["p"].requires_grad
    assert state["view"].tolist() == [1.0]


class Intruder:
    def __reduce__(self):
        return (print, ("code was run",))


def refusal(data):
    with pytest.raises(ValueError, match=r"\w") as caught:
        load_torch_file(data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("legacy", [True, False])
def test_what_a_file_pickles_is_named_and_not_run(legacy, capsys):
    options = {"_use_new_zipfile_serialization": not legacy}
    remedy = "; where it was made, save its tensors alone: torch.save(model.state_dict(), 'weights.pth')"
    assert refusal(torch_file({**TENSORS, "c": Intruder()}, **options)) == (
        "the PyTorch file pickles print besides tensors, which is refused, because it could run code" + remedy
    )
    assert "pickles torch.nn.modules.linear.Linear besides" in refusal(torch_file(torch.nn.Linear(1, 1), **options))
    assert "_reconstruct besides tensors" in refusal(torch_file({"a": np.zeros(2)}, **options))
    assert refusal(pickle.dumps(Intruder(), protocol=2)).startswith("the PyTorch file pickles print ")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"epoch": 3, "state_dict": TENSORS}, "'epoch' is of type int; save checkpoint['state_dict'] alone"),
        ({"state_dict": TENSORS, "ema": TENSORS}, "'state_dict' is of type dict; save checkpoint['state_dict'] alone"),
        ({"weights of mine": TENSORS}, "'weights of mine' is of type dict; save its tensors alone"),
        ({"state_dict": {"model": TENSORS}}, "'model' is of type dict; save checkpoint['model'] alone"),
        ({**TENSORS, "note": "hello"}, "'note' is of type str; save its tensors alone"),
        ({1: torch.zeros(1)}, "its entry 1 is of type Tensor"),
    ],
)
def test_other_things_than_tensors(content, sentence):
    message = refusal(torch_file(content))
    assert message.startswith("the PyTorch file must hold one flat mapping of names to tensors, but its entry ")
    assert sentence in message


def test_no_mapping():
    assert refusal(torch_file([torch.zeros(1)])) == (
        "the PyTorch file holds a list, not a flat mapping of names to tensors"
    )


@pytest.mark.parametrize("legacy", [True, False])
def test_cut_files(legacy):
    data = torch_file(TENSORS, _use_new_zipfile_serialization=not legacy)
    for length in (9, 50, len(data) // 2, len(data) - 1):
        assert "damaged" in refusal(data[:length])


def test_one_changed_bit():
    data = bytearray(torch_file(TENSORS))
    data[data.index(struct.pack("<2f", 500, 501))] ^= 1
    assert refusal(bytes(data)).startswith("the PyTorch file is damaged: the checksum of its part ")


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
