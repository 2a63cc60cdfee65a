"""The manifest: every image of a run in a fixed order, cut into shards."""

import hashlib
import io
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import lru_cache
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pfit_ray import storage
from pfit_ray.config.credentials import redacted
from pfit_ray.constants import FAILED, LABEL_REASONS, OK, Row
from pfit_ray.data.image_bytes import PLACE_FIELDS
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.storage.ranges import open_seekable
from pfit_ray.storage.threads import prefetch

if TYPE_CHECKING:  # who only reads a manifest knows no sources
    from pfit_ray.data.sources.item import Item
    from pfit_ray.data.sources.notes import Notes

SHARDS_PER_PART = 256
UNLABELLED_SET = "predict"
"""The set of images whose labels nobody reads."""
_BLOCK = 1 << 16
_READERS = 8
"""Parts that are read at the same time."""

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
        how many sizes are not, `ground_truth`, the images that have a mask, `digest`, the SHA-256 of all lines
        "image_id<TAB>uri<LF>", and `notes`.
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


def read_manifest_shard(run: RunDirectory, name: str, shard: int, settled: str = "") -> list[Row]:
    """Rows of one shard of a manifest: the manifest's columns, `status` and, where it failed, the `stage`.

    Of the part that holds the shard only the footer and the shard's row group are read. `settled` names a time in which
    the manifest does not change, such as a pass: whether the part is still the same is then asked once.
    """
    with _open_part(run, name, shard // SHARDS_PER_PART, settled) as table:
        return _as_rows(table.read_row_group(shard % SHARDS_PER_PART))


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


def ground_truth_shards(run: RunDirectory, name: str) -> NDArray[np.int64]:
    """The shards of a manifest that have images with ground truth, ascending; empty if there is no manifest."""
    summary = run.read_json("manifest", f"{name}.json")
    if summary is None or summary.get("ground_truth") == 0:
        return np.zeros(0, np.int64)
    found = []
    for part, (sizes, table) in enumerate(_parts(run, name, summary["shards"], ["mask_uri"])):
        shards = np.repeat(np.arange(len(sizes)) + part * SHARDS_PER_PART, sizes)
        found.append(np.unique(shards[table["mask_uri"].is_valid().to_numpy()]))
    return np.concatenate([np.zeros(0, np.int64), *found])


def find_images(run: RunDirectory, name: str, image_ids: Collection[str]) -> dict[str, int]:
    """The shards of a manifest that some images are in; those that it does not list are left out."""
    summary = run.read_json("manifest", f"{name}.json")
    found: dict[str, int] = {}
    with closing(_parts(run, name, summary["shards"] if summary else 0, ["image_id"])) as parts:
        for part, (sizes, table) in enumerate(parts):
            ends = np.cumsum(sizes)
            for image_id in image_ids:
                place = -1 if image_id in found else pc.index(table["image_id"], image_id).as_py()
                if place >= 0:
                    shard = int(np.searchsorted(ends, place, side="right"))
                    found[image_id] = part * SHARDS_PER_PART + shard
            if len(found) == len(image_ids):
                break
    return found


def _parts(
    run: RunDirectory, name: str, shards: int, columns: list[str]
) -> Generator[tuple[list[int], pa.Table], None, None]:
    """Of each part of a manifest the numbers of images of its shards, and some columns."""

    def read(part: int) -> tuple[list[int], pa.Table]:
        with pq.ParquetFile(io.BytesIO(storage.read_bytes(_part_url(run, name, part)))) as file:
            groups = range(file.metadata.num_row_groups)
            sizes = [file.metadata.row_group(group).num_rows for group in groups]
            return sizes, file.read(columns, use_threads=False)

    yield from prefetch(read, range(-(-shards // SHARDS_PER_PART)), _READERS, 2 * _READERS)


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
        self.counts["ground_truth"] = 0

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
        self.counts["ground_truth"] += sum(item.mask_uri is not None for item in items)
        columns = [pa.array([getattr(item, field.name) for item in items], field.type) for field in MANIFEST_SCHEMA]
        return pa.table(columns, schema=MANIFEST_SCHEMA)


def _twice(item: "Item") -> "Item":
    message = f"image id {item.image_id!r} occurs twice in the source; the first image keeps it"
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
def _open_part(run: RunDirectory, name: str, part: int, settled: str = "") -> Iterator[pq.ParquetFile]:
    url = _part_url(run, name, part)
    entry = _settled_entry(url, settled) if settled else _entry(url)
    with open_seekable(url, entry.size, block=_BLOCK) as file:
        yield pq.ParquetFile(file, metadata=_footer(entry))


def _entry(url: str) -> storage.Entry:
    entry = next(storage.list_entries(url, threads=0), None)
    if entry is None:
        raise FileNotFoundError(url)
    return entry


@lru_cache(maxsize=4)
def _settled_entry(url: str, settled: str) -> storage.Entry:
    return _entry(url)


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
