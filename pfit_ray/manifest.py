"""The manifest: every image of a run in a fixed order, cut into shards."""

import io
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pfit_ray import storage
from pfit_ray.errors import RowError
from pfit_ray.layout import RunDirectory
from pfit_ray.schema import FAILED, OK, Row
from pfit_ray.sources import Item

SHARDS_PER_PART = 256

MANIFEST_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("uri", pa.string()),
        ("keys", pa.list_(pa.int32())),
        ("mask_uri", pa.string()),
        ("reason", pa.string()),
        ("message", pa.string()),
    ]
)


def write_manifest(run: RunDirectory, name: str, items: Iterator[Item], shard_size: int) -> dict[str, Any]:
    """Write the manifest of one set of images.

    Each Parquet part holds 256 shards, each shard is one row group. An image id that stands twice becomes
    a failed row the second time, because its outputs would overwrite the first one's.

    Args:
        run: the run directory.
        name: name of the set: `train`, `classifier` or `predict`.
        items: the images in their fixed order.
        shard_size: images per shard.

    Returns:
        Its summary: `images`, `shards`, `shard_size`.
    """
    seen: set[str] = set()
    images = shards = 0
    part: list[pa.Table] = []
    while chunk := list(islice(items, shard_size)):
        part.append(pa.Table.from_pylist([_record(item, seen) for item in chunk], schema=MANIFEST_SCHEMA))
        images += len(chunk)
        shards += 1
        if len(part) == SHARDS_PER_PART:
            _write_part(run, name, shards // SHARDS_PER_PART - 1, part)
            part = []
    if part:
        _write_part(run, name, shards // SHARDS_PER_PART, part)
    summary = {"images": images, "shards": shards, "shard_size": shard_size}
    run.write_json(summary, "manifest", f"{name}.json")
    return summary


def read_manifest_shard(run: RunDirectory, name: str, shard: int) -> list[Row]:
    """Rows of one shard of a manifest: the manifest's columns, `status` and, where it failed, the `stage`."""
    part, group = divmod(shard, SHARDS_PER_PART)
    data = storage.read_bytes(_part_url(run, name, part))
    table = pq.ParquetFile(io.BytesIO(data)).read_row_group(group)
    rows = table.to_pylist()
    for row in rows:
        row["status"] = FAILED if row["reason"] else OK
        row["stage"] = "source" if row["reason"] else None
    return rows


def iterate_manifest(run: RunDirectory, name: str) -> Iterator[Row]:
    """All rows of a manifest in order."""
    for shard in range(run.read_json("manifest", f"{name}.json")["shards"]):
        yield from read_manifest_shard(run, name, shard)


def fetch_images(rows: Sequence[Row]) -> None:
    """Read the encoded bytes of each good row's image into its column `encoded`, or fail the row."""
    for row in rows:
        if row["status"] != OK:
            continue
        try:
            row["encoded"] = storage.fetch(row["uri"])
        except RowError as error:
            row.update(status=FAILED, stage="fetch", reason=error.reason, message=error.message)


def _record(item: Item, seen: set[str]) -> Row:
    record: Row = {
        "image_id": item.image_id,
        "uri": item.uri,
        "keys": None if item.keys is None else list(item.keys),
        "mask_uri": item.mask_uri,
        "reason": item.reason,
        "message": item.message,
    }
    if item.image_id in seen:
        record["reason"] = "bad_id"
        record["message"] = f"image id {item.image_id!r} stands twice in the source; the first image keeps it"
    seen.add(item.image_id)
    return record


def _part_url(run: RunDirectory, name: str, part: int) -> str:
    return run.url("manifest", name, f"{part:05d}.parquet")


def _write_part(run: RunDirectory, name: str, part: int, tables: list[pa.Table]) -> None:
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, MANIFEST_SCHEMA, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table, row_group_size=max(1, len(table)))
    storage.write_bytes(_part_url(run, name, part), buffer.getvalue())
