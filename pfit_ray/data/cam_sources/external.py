"""CAM source: maps made elsewhere, such as those of CLIP-ES or MCTformer."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfit_ray.config.sources import ExternalCamConfig
from pfit_ray.data.cam_sources.base import CamMaps, CamSource
from pfit_ray.data.class_maps import read_class_maps, read_npy
from pfit_ray.data.sources.by_id import open_by_id
from pfit_ray.errors import RowError

_LARGEST_ITEM = 8
"""Bytes of a float64."""


class ExternalCam(CamSource):
    """Maps by image id.

    They are .npz files, alone or in tar files, with the arrays `keys` (K,) and `cam` or `hr_cam` (K, h, w); .npy files
    of IRN, PuzzleCAM, CLIP-ES or MCTformer (see `pfit_ray.data.class_maps.read_class_maps`); or rows of Parquet tables
    with such columns, as pass seeds writes them. Maps are at most as large as the image.

    Args:
        options: the fields of `ExternalCamConfig`.
    """

    def __init__(self, **options: Any) -> None:
        config = ExternalCamConfig.model_validate(options)
        self.columns = (config.column, config.keys_column)
        self.keys_from = config.keys_from
        self.files = open_by_id(config.url, config.form, (".npz", ".npy"), config.id_column, self.columns)

    def setup(self) -> None:
        """Find the files."""
        self.files.setup()

    def cam(self, image: NDArray[np.uint8], image_id: str, keys: Sequence[int] | None) -> CamMaps:
        """Read the image's maps."""
        found = self.files.fetch(image_id)
        largest = 254 * image.shape[0] * image.shape[1] * _LARGEST_ITEM
        try:
            if isinstance(found, bytes):
                ids, maps = read_class_maps(found, largest, self.keys_from)
            else:
                cell, ids = (found[name] for name in self.columns)
                if not isinstance(cell, bytes) or ids is None:
                    raise ValueError(f"columns {' and '.join(self.columns)} are not both filled for {image_id!r}")
                maps = read_npy(cell, self.columns[0], largest)
        except ValueError as error:
            raise RowError("bad_cam", str(error)) from error
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
