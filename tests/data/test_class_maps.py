import io
import zipfile
from typing import Any

import numpy as np
import pytest

from pfit_ray.data.class_maps import read_npy, read_npz

LARGEST = 1000
KEYS = np.array([5, 2])
MAPS = np.random.default_rng(0).random((2, 3, 4))
OBJECTS = np.array([{"a": 1}], dtype=object)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def claiming(shape: tuple[int, ...]) -> bytes:
    """The header of an array of a shape, and nothing of the array."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue()


def npz(compression: int = zipfile.ZIP_DEFLATED, **members: Any) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, member in members.items():
            archive.writestr(f"{name}.npy", member if isinstance(member, bytes) else npy(member))
    return file.getvalue()


@pytest.mark.parametrize("name", ["cam", "hr_cam"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_the_arrays_come_back(name: str, save: Any) -> None:
    file = io.BytesIO()
    save(file, keys=KEYS, other=OBJECTS, **{name: MAPS})
    keys, maps = read_npz(file.getvalue(), LARGEST)
    np.testing.assert_array_equal(keys, KEYS)
    np.testing.assert_array_equal(maps, MAPS)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"cam": MAPS}, "must hold the arrays keys and cam, or keys and hr_cam"),
        ({"keys": KEYS}, "must hold the arrays keys and cam, or keys and hr_cam"),
        ({"keys": KEYS, "cam": OBJECTS}, "the array cam holds Python objects, which are never read"),
        ({"keys": OBJECTS, "cam": MAPS}, "the array keys holds Python objects, which are never read"),
        ({"keys": KEYS, "cam": b"nonsense"}, "the array cam cannot be read"),
        ({"keys": KEYS, "cam": npy(MAPS)[:-8]}, "is larger than its file|cannot be read"),
        ({"keys": KEYS, "cam": claiming((1, 10**7, 10**7))}, "is larger than its file or than a map may be"),
        ({"keys": KEYS, "cam": np.zeros((1, 12, 12))}, "is larger than its file or than a map may be"),
        ({"keys": KEYS, "cam": np.zeros((1, 1000, 1000))}, "cam in the .npz file has more than the 1000 bytes"),
        ({"keys": np.zeros(10**5), "cam": MAPS}, "keys in the .npz file has more than the 65536 bytes"),
    ],
)
def test_what_is_no_class_map_is_refused(members: dict[str, Any], words: str) -> None:
    """Also what is far larger unpacked, or claims to be: before memory is given to it."""
    with pytest.raises(ValueError, match=words):
        read_npz(npz(**members), LARGEST)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_file_is_refused(compression: int) -> None:
    data = npz(compression, keys=KEYS, cam=MAPS)
    keys, _ = read_npz(data, LARGEST)
    np.testing.assert_array_equal(keys, KEYS)
    start = data.index(b"cam.npy") + len("cam.npy")
    for place in range(start, start + 300, 7):
        damaged = data[:place] + bytes(byte ^ 0xFF for byte in data[place : place + 5]) + data[place + 5 :]
        with pytest.raises(ValueError, match=r"cannot be read|larger"):
            read_npz(damaged, LARGEST)
    with pytest.raises(ValueError, match=r"the .npz file cannot be read"):
        read_npz(data[:-30], LARGEST)


def test_an_array_alone() -> None:
    np.testing.assert_array_equal(read_npy(npy(MAPS), "cam", LARGEST), MAPS)
    with pytest.raises(ValueError, match=r"the array walk of shape \(2, 3, 4\) is larger"):
        read_npy(npy(MAPS), "walk", 100)
