"""Stage: a finished row becomes the record that is stored, and its arrays are let go."""

import io
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pfit_ray.constants import PUBLISHED_SOURCES, Row
from pfit_ray.data.images import encode_grey, encode_label
from pfit_ray.rundir.directory import LABEL_COLUMN
from pfit_ray.tasks.base import Stage
from pfit_ray.tasks.results import result_fields

_ZSTD = pa.Codec("zstd", compression_level=1)


class EncodeStage(Stage):
    """Leaves of a row what is stored of it, encoded: the label map as a PNG, maps as PNG or .npy bytes.

    Args:
        pass_name: `seeds`, `labels` or `predict`.
        array_dtype: dtype of stored maps, float16 or float32.
        sources: names of the region sources.
    """

    name = "encode"

    def __init__(self, pass_name: str, array_dtype: str, sources: Sequence[str] = PUBLISHED_SOURCES) -> None:
        self.label = LABEL_COLUMN[pass_name]
        self.fields = result_fields(pass_name, sources)
        made = ("label_ids", "label_pixels")
        stored = (name for name, _ in self.fields if name not in made)
        self.reads = (*dict.fromkeys(("image_id", "uri", "height", "width", self.label, *stored)),)
        self.adds = (*made, "label")
        self.array_dtype = np.dtype(array_dtype)

    def process(self, row: Row) -> None:
        """Encode one row."""
        pixels = np.bincount(row[self.label].ravel())
        ids = np.flatnonzero(pixels)
        row["label_ids"], row["label_pixels"] = ids.tolist(), pixels[ids].tolist()
        record = {
            name: self._encode(name, row[name]) if kind == pa.binary() else row[name] for name, kind in self.fields
        }
        record["label"] = encode_label(row[self.label])
        kept = {name: row[name] for name in ("image_id", "uri", "height", "width", "status")}
        row.clear()
        row.update(kept, **record)

    def _encode(self, name: str, array: np.ndarray) -> bytes:
        if name.startswith("fit_mask_"):
            return encode_grey(array.reshape(-1, array.shape[-1]))
        if name.startswith("regions_"):
            return encode_grey(array)
        return array_bytes(array.astype(self.array_dtype))


def array_bytes(array: np.ndarray) -> bytes:
    """An array as the bytes of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def array_from_bytes(data: bytes) -> np.ndarray:
    """The array in the bytes of a .npy file."""
    return np.load(io.BytesIO(data), allow_pickle=False)


def compressed_array(array: np.ndarray) -> bytes:
    """An array as compressed bytes, for its way to the next operator."""
    data = array_bytes(array)
    packed: bytes = _ZSTD.compress(data, asbytes=True)
    return len(data).to_bytes(8, "little") + packed


def decompressed_array(data: bytes) -> np.ndarray:
    """The array in what `compressed_array` made."""
    unpacked: bytes = _ZSTD.decompress(data[8:], int.from_bytes(data[:8], "little"), asbytes=True)
    return array_from_bytes(unpacked)
