"""The manifest: every image of a run in a fixed order, cut into shards."""

import hashlib
import io
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from itertools import groupby, islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pfit_ray import storage
from pfit_ray.constants import FAILED, LABEL_REASONS, OK, Row
from pfit_ray.data import label_shards
from pfit_ray.data.image_rows import read_image_rows
from pfit_ray.data.sources import Item, Notes
from pfit_ray.data.sources.spill import SeenTexts
from pfit_ray.errors import RowError
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.storage.ranges import open_for_rows, open_seekable
from pfit_ray.storage.threads import prefetch

SHARDS_PER_PART = 256
UNLABELLED_SET = "predict"
"""The set of images whose labels nobody reads."""
_BLOCK = 1 << 16

PLACE_FIELDS = [
    ("uri", pa.string()),
    ("offset", pa.int64()),
    ("length", pa.int64()),
    ("row", pa.int64()),
    ("column", pa.string()),
]
"""Where the bytes of an image are: the file at `uri`; of a tar file the bytes [offset, offset + length); of a Parquet
file the cell of row `row`, from 0, in column `column`."""

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
"""`size` is the image's bytes and `version` its file's etag or time of change when it was listed, null where the
listing does not tell. An image that has changed since is read as it is now."""


def write_manifest(
    run: RunDirectory, name: str, items: Iterator[Item], shard_size: int, notes: Notes | None = None
) -> dict[str, Any]:
    """Write the manifest of one set of images.

    Each Parquet part holds 256 shards, each shard is one row group. An image id that stands twice becomes
    a failed row the second time, because its outputs would overwrite the first one's. In the set `predict`, which
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


def fetch_images(rows: Sequence[Row], threads: int = 1) -> None:
    """Read the encoded bytes of each good row's image into its column `encoded`, or fail the row.

    A Parquet file is opened once for all its rows, and each of its row groups read once. An image that has
    changed since it was listed is read as it is now.

    Args:
        rows: rows of a manifest.
        threads: files that are read at the same time.
    """
    single: list[Row] = []
    in_tables: dict[tuple[str, str], dict[int, Row]] = {}
    for row in rows:
        if row["status"] != OK:
            continue
        if row.get("row") is None:
            single.append(row)
        else:
            in_tables.setdefault((row["uri"], row["column"]), {})[row["row"]] = row
    jobs: list[Callable[[], None]] = [partial(_fetch_one, row) for row in single]
    jobs += [partial(_fetch_table, *place, by_number) for place, by_number in in_tables.items()]
    for _ in prefetch(lambda job: job(), jobs, threads if threads > 1 and len(jobs) > 1 else 0, ahead=len(jobs)):
        pass


def _fetch_one(row: Row) -> None:
    try:
        row["encoded"] = fetch_image(row)
    except RowError as error:
        _fail(row, error)


def _fetch_table(uri: str, column: str, by_number: dict[int, Row]) -> None:
    try:
        for number, found in _parquet_images(uri, column, sorted(by_number)):
            row = by_number.pop(number)
            if isinstance(found, RowError):
                _fail(row, found)
            else:
                row["encoded"] = found
    except RowError as error:
        for row in by_number.values():
            _fail(row, error)


def fetch_image(row: Mapping[str, Any]) -> bytes:
    """The encoded bytes of one image.

    Args:
        row: has the columns `PLACE_FIELDS`; all but `uri` may be absent.

    Raises:
        RowError: as `storage.fetch` does; `bad_file` for a damaged Parquet file.
    """
    if row.get("row") is not None:
        with closing(_parquet_images(row["uri"], row["column"], [row["row"]])) as images:
            _, found = next(images)
        if isinstance(found, RowError):
            raise found
        return found
    if row.get("offset") is None:
        return storage.fetch(row["uri"])
    if not row["length"]:
        raise RowError("empty_file", f"the image at byte {row['offset']} of {row['uri']} has no bytes")
    return label_shards.read_member(row["uri"], row["offset"], row["length"])


class _Listing:
    """Turns images into tables, and counts them.

    Args:
        shard_size: images per shard.
    """

    def __init__(self, shard_size: int) -> None:
        self.seen = SeenTexts()
        self.digest = hashlib.sha256()
        self.counts = {"images": 0, "shards": 0, "shard_size": shard_size, "bytes": 0, "unknown_sizes": 0}

    def table(self, items: Sequence[Item]) -> pa.Table:
        """The table of one shard."""
        items = [item if self.seen.add(item.image_id) else _twice(item) for item in items]
        self.digest.update("".join(f"{item.image_id}\t{item.uri}\n" for item in items).encode())
        sizes = [item.size for item in items if item.size is not None]
        self.counts["images"] += len(items)
        self.counts["shards"] += 1
        self.counts["bytes"] += sum(sizes)
        self.counts["unknown_sizes"] += len(items) - len(sizes)
        columns = [pa.array([getattr(item, field.name) for item in items], field.type) for field in MANIFEST_SCHEMA]
        return pa.table(columns, schema=MANIFEST_SCHEMA)


def _twice(item: Item) -> Item:
    message = f"image id {item.image_id!r} stands twice in the source; the first image keeps it"
    return replace(item, reason="bad_id", message=message)


def _without_label(item: Item) -> Item:
    """An image whose label may be unusable, because nobody asks for it."""
    return replace(item, keys=None, reason=None, message=None) if item.reason in LABEL_REASONS else item


def _write_part(run: RunDirectory, name: str, listing: _Listing, chunks: Iterator[list[Item]]) -> bool:
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
    rows: list[Row] = table.to_pylist()
    for row in rows:
        row["status"] = FAILED if row["reason"] else OK
        row["stage"] = "source" if row["reason"] else None
    return rows


def _parquet_images(
    uri: str, column: str, numbers: Sequence[int]
) -> Generator[tuple[int, bytes | RowError], None, None]:
    """Images of a Parquet file by row number, ascending, or what is wrong with one of them."""
    with open_for_rows(uri) as file:
        found = read_image_rows(file, column, numbers)
        for number in numbers:
            row, data = next(found, (None, None))
            if row != number:
                yield number, RowError("missing", f"{uri} has no row {number} any more")
            else:
                yield number, data or RowError("empty_file", f"row {number} of {uri} has no bytes")


def _fail(row: Row, error: RowError) -> None:
    row.update(status=FAILED, stage="fetch", reason=error.reason, message=error.message)
