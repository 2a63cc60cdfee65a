"""Parquet as Hugging Face `datasets` reads it: image, label map, classes and scores in one row."""

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pfit_ray.data.sources.parquet import CLASSES_METADATA
from pfit_ray.results.export.items import LabelledImage
from pfit_ray.results.export.writer import FormatWriter, Target

PART_BYTES = 256 << 20
"""A file is closed when it has so many bytes of images."""
ROW_GROUP = 64
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_VALUES = {pa.string(): "string", pa.int32(): "int32", pa.float32(): "float32"}


class HuggingFaceWriter(FormatWriter):
    """`data/SPLIT-00000.parquet`, ...; the card, README.md, names them as a data set of `datasets`."""

    folder = None

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.schema = _schema(target)
        self.file: pq.ParquetWriter | None = None
        self.rows: list[dict[str, Any]] = []
        self.parts = 0
        self.bytes = 0

    def add(self, image: LabelledImage, file_name: str) -> dict[str, bytes]:
        """See `FormatWriter`."""
        _ = image.label  # a damaged map is found here
        row: dict[str, Any] = {
            "image": None if image.encoded is None else {"bytes": image.encoded, "path": file_name},
            "label": {"bytes": image.png, "path": f"{image.image_id}.png"},
            "image_id": image.image_id,
            "height": image.height,
            "width": image.width,
            "classes": [self.target.classes.name(key) for key in image.keys],
            **image.scores,
        }
        self.rows.append(row)
        self.bytes += len(image.encoded or b"") + len(image.png)
        if len(self.rows) == ROW_GROUP:
            self._flush()
        if self.bytes >= PART_BYTES:
            self._close()
        return {}

    def finish(self) -> None:
        """Close the last file; an export without images has one that is empty."""
        if self.rows or self.file is not None or not self.parts:
            self._close()

    def _flush(self) -> None:
        if self.file is None:
            self.path = self.target.scratch / "part.parquet"
            self.file = pq.ParquetWriter(self.path, self.schema, compression="zstd")
        self.file.write_table(pa.Table.from_pylist(self.rows, schema=self.schema))
        self.rows = []

    def _close(self) -> None:
        self._flush()
        assert self.file is not None, "_flush opens it"
        self.file.close()
        self.target.publish(f"data/{self.target.split}-{self.parts:05d}.parquet", self.path)
        self.file, self.parts, self.bytes = None, self.parts + 1, 0


def _schema(target: Target) -> pa.Schema:
    """Arrow schema with the description by which `datasets` decodes images, and by which we number the classes."""
    plain = [("image_id", pa.string()), ("height", pa.int32()), ("width", pa.int32())]
    floats = [(name, pa.float32()) for name in target.scores]
    fields = [("image", _IMAGE), ("label", _IMAGE), *plain, ("classes", pa.list_(pa.string())), *floats]
    features: dict[str, Any] = {name: {"_type": "Image"} for name in ("image", "label")}
    features |= {name: {"dtype": _VALUES[kind], "_type": "Value"} for name, kind in plain + floats}
    features["classes"] = {"feature": {"dtype": "string", "_type": "Value"}, "_type": "Sequence"}
    names = json.dumps(target.classes.names)
    description = {"info": {"features": {name: features[name] for name, _ in fields}}}
    return pa.schema(fields, metadata={"huggingface": json.dumps(description), CLASSES_METADATA: names})
