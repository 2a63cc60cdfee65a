"""Class maps that were made elsewhere, in .npy and .npz files; nothing in them is trusted."""

import io
import lzma
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pfit_ray.data.array_dict import read_array_dict, read_header

MAPS = ("cam", "hr_cam", "high_res", "attn_highres")
"""Names that the maps may have."""
_FROM_ZERO = ("high_res", "attn_highres")
"""Names that IRN and CLIP-ES give, whose keys count from 0, the first foreground class."""
_HEADER = 4096
_LARGEST_KEYS = 1 << 16


def read_class_maps(
    data: bytes, largest: int, keys_from: Literal[0, 1] | None = None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Class ids (K,) from 1 and class maps (K, h, w) of a .npz or .npy file.

    The keys of a .npz file are class ids, unless it has the arrays of IRN or CLIP-ES, whose keys count from 0. A .npy
    file holds a dictionary: that of IRN or CLIP-ES; that of PuzzleCAM, with one more key, 0, for the background; or a
    map for each key (MCTformer), where `keys_from` must say where the keys begin. Nothing is unpickled.

    Args:
        data: bytes of the file.
        largest: bytes that the maps may have.
        keys_from: the key of the first foreground class; None goes by the file's form.

    Raises:
        ValueError: in one sentence what is wrong.
    """
    if data.startswith(b"\x93NUMPY"):
        found = read_array_dict(data, 3 * largest + _LARGEST_KEYS)
        if found and all(isinstance(key, int | np.integer) and not isinstance(key, bool) for key in found):
            ids = sorted(found)
            keys, maps = np.array(ids), np.stack([np.asarray(found[key]) for key in ids])
            names: Sequence[str] = ()
        else:
            name = next((name for name in MAPS if name in found), None)
            if name is None or "keys" not in found:
                raise ValueError(
                    f"the .npy file holds {sorted(map(str, found))}, not keys and one of {', '.join(MAPS)}"
                )
            keys, maps, names = np.asarray(found["keys"]), np.asarray(found[name]), tuple(map(str, found))
        padded = len(keys) == len(maps) + 1 and keys.ndim == 1 and keys[0] == 0
        if padded:
            return keys[1:], maps
        told = 0 if set(names) & set(_FROM_ZERO) else None
    else:
        keys, maps = read_npz(data, largest)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            told = 0 if any(f"{name}.npy" in archive.namelist() for name in _FROM_ZERO) else 1
    first = told if keys_from is None else keys_from
    if keys.ndim != 1 or (keys.size and keys.dtype.kind not in "iu"):
        raise ValueError("the keys of the maps are not a list of class ids")
    if first is None:
        raise ValueError(
            "the .npy file does not say whether its keys count from 0 or from 1; set keys_from to the key of the first "
            "foreground class"
        )
    if first == 1 and (keys == 0).any():
        raise ValueError("the keys hold 0, so they count from 0 or name the background; set keys_from=0 if the first")
    return keys.astype(np.int64) + (1 - first), maps


def read_npz(data: bytes, largest: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The array `keys` and the first of `MAPS` of a .npz file, whatever their shapes and dtypes.

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
    """The array of a .npy file. Nothing is unpickled, and its header alone does not decide how much memory is taken.

    Args:
        data: bytes of the file.
        name: of the array, for messages.
        largest: bytes that the array may have.

    Raises:
        ValueError: in one sentence what is wrong.
    """
    file = io.BytesIO(data)
    try:
        shape, dtype = read_header(file)
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
    """The bytes of a member, counted while it is unpacked, whatever its header says."""
    with archive.open(f"{name}.npy") as file:
        data = file.read(largest + _HEADER + 1)
    if len(data) > largest + _HEADER:
        raise ValueError(f"{name} in the .npz file has more than the {largest} bytes that it may have")
    return data
