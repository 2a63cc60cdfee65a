"""Dictionaries of arrays are read by their opcodes; whatever else a pickle names is refused and never run."""

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pfit_ray.data.array_dict import read_array_dict
from pfit_ray.data.class_maps import read_class_maps

MAPS = np.random.default_rng(0).random((2, 3, 4)).astype(np.float32)
TENSOR = torch.from_numpy(MAPS)
LARGEST = 1 << 16


def npy(content: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, content, allow_pickle=True)
    return buffer.getvalue()


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


IRN = {"keys": torch.tensor([0, 14]), "cam": TENSOR, "high_res": np.ones((2, 9, 9), np.float32)}
PUZZLE = {"keys": np.array([0, 1, 15]), "cam": TENSOR, "hr_cam": np.ones((2, 9, 9), np.float32)}
CLIP_ES = {"keys": np.array([0, 14]), "attn_highres": MAPS.astype(np.float16)}
MCTFORMER = {0: MAPS[0], 14: MAPS[1]}


@pytest.mark.parametrize(
    ("data", "keys_from"),
    [
        (npy(IRN), None),
        (npy(PUZZLE), None),
        (npy(CLIP_ES), None),
        (npy(MCTFORMER), 0),
        (npy({1: MAPS[0], 15: MAPS[1]}), 1),
        (npy({"keys": np.array([0, 14]), "cam": MAPS}), 0),
        (npz(keys=[1, 15], cam=MAPS), None),
        (npz(keys=[0, 14], cam=MAPS, high_res=MAPS), None),
        (npz(keys=[0, 14], cam=MAPS), 0),
    ],
    ids=["irn", "puzzle", "clip-es", "mctformer", "from-1", "told", "npz", "npz-irn", "npz-told"],
)
def test_class_maps_of_other_programs(data: bytes, keys_from: Any) -> None:
    keys, maps = read_class_maps(data, LARGEST, keys_from)
    assert keys.tolist() == [1, 15]
    np.testing.assert_allclose(maps, MAPS, atol=1e-3)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (npy(MCTFORMER), "keys_from"),
        (npy({"keys": np.array([7, 14]), "cam": MAPS}), "keys_from"),
        (npz(keys=[0, 14], cam=MAPS), "keys_from"),
        (npy({"cam": MAPS}), "not keys"),
        (npy(MAPS), "without the keys"),
        (npy({0: MAPS[0], 1: MAPS[0, :2]}), "shape"),
    ],
)
def test_what_does_not_say_how_it_counts_is_refused(data: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read_class_maps(data, LARGEST)


class Command:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_nothing_in_the_file_is_run(tmp_path: Path, protocol: int) -> None:
    for content in ({"keys": Command(tmp_path / "x")}, {Command(tmp_path / "x"): 1}, [Command(tmp_path / "x")]):
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(buffer, {"descr": "|O", "fortran_order": False, "shape": ()})
        pickle.dump(content, buffer, protocol=protocol)
        with pytest.raises(ValueError, match=r"cannot be read: it pickles|no dictionary"):
            read_array_dict(buffer.getvalue(), LARGEST)
    assert not (tmp_path / "x").exists()


def test_a_file_that_is_cut_off_or_too_large_is_refused() -> None:
    whole = npy(IRN)
    for end in range(10, len(whole) - 1, 23):
        with pytest.raises(ValueError, match="cannot be read"):
            read_array_dict(whole[:end], LARGEST)
    with pytest.raises(ValueError, match="more than the 100"):
        read_array_dict(whole, 100)


def test_a_tensor_does_not_grow_beyond_its_storage() -> None:
    wide = torch.ones(1).expand(1000, 1000)  # one number, a million times
    with pytest.raises(ValueError, match="beyond its storage"):
        read_array_dict(npy({"keys": np.array([1]), "cam": wide}), LARGEST)
