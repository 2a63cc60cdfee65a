"""CAM source: maps made elsewhere, such as those of CLIP-ES or MCTformer."""

import io
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from pfit_ray.cam_sources.base import CamMaps, CamSource
from pfit_ray.config.sources import ExternalCamConfig
from pfit_ray.errors import RowError
from pfit_ray.sources.by_id import open_by_id

_LARGEST_ITEM = 8
"""Bytes of a float64."""
_HEADER = 4096
_LARGEST_KEYS = 1 << 16


class ExternalCam(CamSource):
    """Maps by image id.

    They are .npz files, alone or in tar files, with the arrays `keys` (K,) and `cam` (K, h, w), or rows of Parquet
    tables with such columns, as pass seeds writes them. Maps are at most as large as the image.

    Args:
        options: the fields of `ExternalCamConfig`.
    """

    def __init__(self, **options: Any) -> None:
        config = ExternalCamConfig.model_validate(options)
        self.columns = (config.column, config.keys_column)
        self.files = open_by_id(config.url, config.form, ".npz", config.id_column, self.columns)

    def setup(self) -> None:
        """Find the files."""
        self.files.setup()

    def cam(self, image: NDArray[np.uint8], image_id: str, keys: Sequence[int] | None) -> CamMaps:
        """Read the image's maps."""
        found = self.files.fetch(image_id)
        largest = 254 * image.shape[0] * image.shape[1] * _LARGEST_ITEM
        if isinstance(found, bytes):
            ids, maps = _from_npz(found, largest)
        else:
            cell, ids = (found[name] for name in self.columns)
            if not isinstance(cell, bytes) or ids is None:
                raise RowError("bad_cam", f"columns {' and '.join(self.columns)} are not both filled for {image_id!r}")
            maps = _array(cell, largest, self.columns[0])
        ids = np.asarray(ids)
        if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
            raise RowError("bad_cam", "the keys of the maps are not a list of class ids")
        if maps.ndim != 3 or maps.dtype.kind not in "fiu" or len(maps) != len(ids):
            raise RowError(
                "bad_cam",
                f"the maps are {maps.dtype} {maps.shape} for {len(ids)} keys, not numbers (keys, height, width)",
            )
        if maps.shape[1] > image.shape[0] or maps.shape[2] > image.shape[1]:
            raise RowError("bad_cam", f"maps of {maps.shape[1:]} are larger than the image of {image.shape[:2]}")
        return CamMaps([int(key) for key in ids], maps)


def _from_npz(data: bytes, largest: int) -> tuple[NDArray[Any], NDArray[Any]]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return (
                _array(_member(archive, "keys.npy", _LARGEST_KEYS), _LARGEST_KEYS, "keys"),
                _array(_member(archive, "cam.npy", largest), largest, "cam"),
            )
    except KeyError as error:
        raise RowError("bad_cam", f"the .npz file must hold the arrays keys and cam: {error.args[0]}") from error
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise RowError("bad_cam", f"the .npz file cannot be read: {error}") from error


def _member(archive: zipfile.ZipFile, name: str, largest: int) -> bytes:
    """The bytes of a member, which are counted while it is unpacked, whatever its header says."""
    with archive.open(name) as file:
        data = file.read(largest + _HEADER + 1)
    if len(data) > largest + _HEADER:
        raise RowError("bad_cam", f"{name} in the .npz file has more bytes than any map of this image")
    return data


def _array(data: bytes, largest: int, name: str) -> NDArray[Any]:
    """The array of a .npy file; nothing is unpickled, and no memory is given on the word of its header alone."""
    file = io.BytesIO(data)
    try:
        version = npy.read_magic(file)
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = header(file)
        if dtype.hasobject:
            raise RowError("bad_cam", f"the array {name} holds Python objects, which are never read")
        size = dtype.itemsize
        for side in shape:
            size *= side
        if size > min(largest, len(data)):
            raise RowError("bad_cam", f"the array {name} of shape {shape} is larger than its file or the image")
        file.seek(0)
        return np.load(file, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise RowError("bad_cam", f"the array {name} cannot be read: {' '.join(str(error).split())}") from error
