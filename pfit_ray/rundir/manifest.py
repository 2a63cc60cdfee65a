"""The manifest: every image of a run in a fixed order, cut into shards."""

import hashlib
import io
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import lru_cache
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pfit_ray import storage
from pfit_ray.config.credentials import redacted
from pfit_ray.constants import FAILED, LABEL_REASONS, OK, Row
from pfit_ray.data.image_bytes import PLACE_FIELDS
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.storage.ranges import open_seekable

if TYPE_CHECKING:  # who only reads a manifest knows no sources
    from pfit_ray.data.sources.item import Item
    from pfit_ray.data.sources.notes import Notes

SHARDS_PER_PART = 256
UNLABELLED_SET = "predict"
"""The set of images whose labels nobody reads."""
_BLOCK = 1 << 16

MANIFEST_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        *PLACE_FIELDS,
        ("size", pa.int64()),
        ("version", pa.string()),
        ("keys", pa.list_(pa.int32())),
        ("mask_uri", pa.string()),
        ("reason", pa.string()),
        ("message", pa.string()),
    ]
)
"""`size` is the image's bytes and `version` its file's etag or time of change when it was listed, null if the
listing does not say. An image that has changed since is read as it is now. What a manifest of an older version lacks
is null."""


def write_manifest(
    run: RunDirectory, name: str, items: "Iterator[Item]", shard_size: int, notes: "Notes | None" = None
) -> dict[str, Any]:
    """Write the manifest of one set of images.

    Each Parquet part holds 256 shards, each shard is one row group. The second image with
    an id becomes a failed row, because its outputs would overwrite the first one's. In the set `predict`, which
    needs no labels, an unusable label fails no row. Memory holds one part, compressed; the ids that have been seen
    are in a temporary file (see `pfit_ray.data.sources.spill`).

    Args:
        run: the run directory.
        name: name of the set: `train`, `classifier` or `predict`.
        items: the images in their fixed order.
        shard_size: images per shard.
        notes: what the listing notices besides the images, complete when they have been read.

    Returns:
        Its summary: `images`, `shards`, `shard_size`, `bytes` of the images whose size is known, `unknown_sizes`,
        how many sizes are not, `digest`, the SHA-256 of all lines "image_id<TAB>uri<LF>", and `notes`.
    """
    listing = _Listing(shard_size)
    wanted = map(_without_label, items) if name == UNLABELLED_SET else items
    chunks = iter(lambda: list(islice(wanted, shard_size)), [])
    while _write_part(run, name, listing, chunks):
        pass
    told = [] if notes is None else notes.document()
    summary = {**listing.counts, "digest": listing.digest.hexdigest(), "notes": told}
    run.write_json(summary, "manifest", f"{name}.json")
    return summary


def read_manifest_shard(run: RunDirectory, name: str, shard: int) -> list[Row]:
    """Rows of one shard of a manifest: the manifest's columns, `status` and, where it failed, the `stage`.

    Of the part that holds the shard only the footer and the shard's row group are read.
    """
    with closing(iterate_shards(run, name, [shard])) as found:
        return next(found)[1]


def iterate_shards(run: RunDirectory, name: str, shards: Iterable[int]) -> Generator[tuple[int, list[Row]], None, None]:
    """Numbers and rows of some shards of a manifest; see `read_manifest_shard`.

    A part is opened once for all shards in it that follow one another.
    """
    for part, group in groupby(shards, key=lambda shard: shard // SHARDS_PER_PART):
        with _open_part(run, name, part) as table:
            for shard in group:
                yield shard, _as_rows(table.read_row_group(shard % SHARDS_PER_PART))


def iterate_manifest(run: RunDirectory, name: str) -> Iterator[Row]:
    """All rows of a manifest in order."""
    for _, rows in iterate_shards(run, name, range(run.read_json("manifest", f"{name}.json")["shards"])):
        yield from rows


def read_manifest_columns(run: RunDirectory, name: str, columns: list[str]) -> pa.Table:
    """Some columns of a whole manifest, its rows in order."""
    shards = run.read_json("manifest", f"{name}.json")["shards"]
    tables = []
    for part in range(-(-shards // SHARDS_PER_PART)):
        with _open_part(run, name, part) as table:
            tables.append(table.read(columns))
    return pa.concat_tables(tables) if tables else MANIFEST_SCHEMA.empty_table().select(columns)


class _Listing:
    """Turns images into tables, and counts them.

    Args:
        shard_size: images per shard.
    """

    def __init__(self, shard_size: int) -> None:
        from pfit_ray.data.sources.spill import SeenTexts

        self.seen = SeenTexts()
        self.digest = hashlib.sha256()
        self.counts = {"images": 0, "shards": 0, "shard_size": shard_size, "bytes": 0, "unknown_sizes": 0}

    def table(self, items: "Sequence[Item]") -> pa.Table:
        """The table of one shard."""
        items = [item if self.seen.add(item.image_id) else _twice(item) for item in items]
        items = [replace(item, message=redacted(item.message)) if item.message else item for item in items]
        self.digest.update("".join(f"{item.image_id}\t{item.uri}\n" for item in items).encode())
        sizes = [item.size for item in items if item.size is not None]
        self.counts["images"] += len(items)
        self.counts["shards"] += 1
        self.counts["bytes"] += sum(sizes)
        self.counts["unknown_sizes"] += len(items) - len(sizes)
        columns = [pa.array([getattr(item, field.name) for item in items], field.type) for field in MANIFEST_SCHEMA]
        return pa.table(columns, schema=MANIFEST_SCHEMA)


def _twice(item: "Item") -> "Item":
    message = f"image id {item.image_id!r} stands twice in the source; the first image keeps it"
    return replace(item, reason="bad_id", message=message)


def _without_label(item: "Item") -> "Item":
    """An image whose label may be unusable, because nobody asks for it."""
    return replace(item, keys=None, reason=None, message=None) if item.reason in LABEL_REASONS else item


def _write_part(run: RunDirectory, name: str, listing: _Listing, chunks: "Iterator[list[Item]]") -> bool:
    """Write the next part, and say whether there was anything to write."""
    part = listing.counts["shards"] // SHARDS_PER_PART
    buffer = io.BytesIO()
    # Without statistics the footer, which every reader of a shard needs, is half as large.
    with pq.ParquetWriter(buffer, MANIFEST_SCHEMA, compression="zstd", write_statistics=False) as writer:
        images = 0
        for chunk in islice(chunks, SHARDS_PER_PART):
            writer.write_table(listing.table(chunk), row_group_size=len(chunk))
            images += len(chunk)
    if images:
        storage.write_bytes(_part_url(run, name, part), buffer.getvalue())
    return images > 0


def _part_url(run: RunDirectory, name: str, part: int) -> str:
    return run.url("manifest", name, f"{part:05d}.parquet")


@contextmanager
def _open_part(run: RunDirectory, name: str, part: int) -> Iterator[pq.ParquetFile]:
    url = _part_url(run, name, part)
    entry = next(storage.list_entries(url, threads=0), None)
    if entry is None:
        raise FileNotFoundError(url)
    with open_seekable(url, entry.size, block=_BLOCK) as file:
        yield pq.ParquetFile(file, metadata=_footer(entry))


@lru_cache(maxsize=4)
def _footer(entry: storage.Entry) -> pq.FileMetaData:
    """Footer of a part as it was written at one time; a worker reads many shards of the same part."""
    with open_seekable(entry.url, entry.size, block=_BLOCK) as file:
        return pq.read_metadata(file)


def _as_rows(table: pa.Table) -> list[Row]:
    lacking = dict.fromkeys({*MANIFEST_SCHEMA.names} - {*table.column_names})  # of an older version
    rows: list[Row] = [{**lacking, **row} for row in table.to_pylist()]
    for row in rows:
        row["status"] = FAILED if row["reason"] else OK
        row["stage"] = "source" if row["reason"] else None
    return rows
