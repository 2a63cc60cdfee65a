"""Class maps that were made elsewhere, in .npy and .npz files: nothing in them is taken on its word."""

import io
import lzma
import zipfile
import zlib
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

MAPS = ("cam", "hr_cam")
"""What the maps may be called in a .npz file."""
_HEADER = 4096
_LARGEST_KEYS = 1 << 16


def read_npz(data: bytes, largest: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The arrays `keys` and `cam`, or `hr_cam`, of a .npz file, whatever their shapes and dtypes.

    Args:
        data: bytes of the file.
        largest: bytes that the maps may have.

    Raises:
        ValueError: in one sentence what is wrong.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.namelist()
            name = next((name for name in MAPS if f"{name}.npy" in members), None)
            if name is None or "keys.npy" not in members:
                raise ValueError("the .npz file must hold the arrays keys and cam, or keys and hr_cam")
            keys = read_npy(_member(archive, "keys", _LARGEST_KEYS), "keys", _LARGEST_KEYS)
            return keys, read_npy(_member(archive, name, largest), name, largest)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"the .npz file cannot be read: {error}") from error


def read_npy(data: bytes, name: str, largest: int) -> NDArray[Any]:
    """The array of a .npy file; nothing is unpickled, and no memory is given on the word of its header alone.

    Args:
        data: bytes of the file.
        name: of the array, for messages.
        largest: bytes that the array may have.

    Raises:
        ValueError: in one sentence what is wrong.
    """
    file = io.BytesIO(data)
    try:
        version = npy.read_magic(file)
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = header(file)
        size = dtype.itemsize
        for side in shape:
            size *= side
        file.seek(0)
        if not dtype.hasobject and size <= min(largest, len(data)):
            return np.load(file, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"the array {name} cannot be read: {' '.join(str(error).split())}") from error
    if dtype.hasobject:
        raise ValueError(f"the array {name} holds Python objects, which are never read")
    raise ValueError(f"the array {name} of shape {shape} is larger than its file or than a map may be")


def _member(archive: zipfile.ZipFile, name: str, largest: int) -> bytes:
    """The bytes of a member, which are counted while it is unpacked, whatever its header says."""
    with archive.open(f"{name}.npy") as file:
        data = file.read(largest + _HEADER + 1)
    if len(data) > largest + _HEADER:
        raise ValueError(f"{name} in the .npz file has more than the {largest} bytes that it may have")
    return data
