"""What people say about images: accept, reject or needs work, in tables of the run, one for each explorer that wrote.

No two processes write the same table, so that none loses the marks of another. Of several marks of an image the last
counts, whichever table it is in.
"""

import io
import threading
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from pfit_ray import storage
from pfit_ray.config.training import Review
from pfit_ray.errors import UserError
from pfit_ray.rundir.directory import Network, RunDirectory

Mark = Literal["accept", "reject", "needs_work"]
MARKS: tuple[Mark, ...] = get_args(Mark)

MARK_SCHEMA = pa.schema(
    [("image_id", pa.string()), ("mark", pa.string()), ("time", pa.timestamp("us", tz="UTC"))],
)
"""A row for each image, sorted by id; `time` is when it was marked, `mark` is null where a mark was taken away."""

_LEFT_OUT: dict[Review, tuple[Mark | None, ...]] = {
    "not_rejected": ("reject",),
    "no_complaints": ("reject", "needs_work"),
    "accepted": ("reject", "needs_work", None),
}


class Marked(NamedTuple):
    """The mark of one image, and when it was given."""

    mark: Mark
    time: datetime


class _Said(NamedTuple):
    """A row of a table; None takes the image's mark away."""

    mark: Mark | None
    time: datetime


def used_marks_url(run: RunDirectory, network: Network) -> str:
    """Where the marks that a training uses lie: those that existed when it began."""
    return run.url("train", network, "marks.parquet")


def run_marks(run: RunDirectory) -> dict[str, Marked]:
    """The marks of a run by image id: those of all `review/*.parquet` together; none if there is no table.

    Raises:
        UserError: when one of them is no table of marks.
    """
    return _merged(_read_table(entry.url) for entry in _tables(run))


def read_marks(url: str) -> dict[str, Marked]:
    """The marks of one table; see `run_marks`."""
    return _merged([_read_table(url)])


def write_marks(url: str, marks: Mapping[str, _Said | Marked]) -> None:
    """Write a table of marks, atomically; equal marks give equal bytes."""
    ids = sorted(marks)
    columns = [ids, [marks[one].mark for one in ids], [marks[one].time for one in ids]]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, MARK_SCHEMA, strict=True)]
    buffer = io.BytesIO()
    pq.write_table(pa.table(arrays, schema=MARK_SCHEMA), buffer, compression="zstd")
    storage.write_bytes(url, buffer.getvalue())


class MarkTable:
    """A run's marks, changed one at a time by several threads. It writes a table of its own and reads all.

    Args:
        run: the run directory.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._url = run.url("review", f"marks-{uuid.uuid4().hex}.parquet")
        self._lock = threading.Lock()
        self._read: dict[str, tuple[storage.Entry, dict[str, _Said]]] = {}
        """The tables as they were read, by URL."""

    def read(self) -> dict[str, Marked]:
        """All marks, as `run_marks`."""
        with self._lock:
            return _merged(self._tables())

    def set(self, image_id: str, mark: Mark | None) -> dict[str, Marked]:
        """Mark an image, or with None take its mark away, and return all marks.

        The new mark is later than every other of the image, whatever the clocks of those who gave them.
        """
        with self._lock:
            tables = self._tables()
            before = [table[image_id] for table in tables if image_id in table]
            if mark is None and image_id not in _merged(tables):
                return _merged(tables)
            time = max([datetime.now(UTC), *(said.time + timedelta(microseconds=1) for said in before)])
            own = self._read[self._url][1] if self._url in self._read else {}
            write_marks(self._url, {**own, image_id: _Said(mark, time)})
            return _merged(self._tables())

    def _tables(self) -> list[dict[str, _Said]]:
        """All tables; those that did not change are not read again."""
        found = {}
        for entry in _tables(self._run):
            known = self._read.get(entry.url)
            unchanged = known is not None and entry.version is not None and known[0] == entry
            found[entry.url] = known if known and unchanged else (entry, _read_table(entry.url))
        self._read = found
        return [table for _, table in found.values()]


def _tables(run: RunDirectory) -> Iterable[storage.Entry]:
    return (entry for entry in storage.list_entries(run.url("review"), threads=0) if entry.url.endswith(".parquet"))


def _read_table(url: str) -> dict[str, _Said]:
    try:
        data = storage.read_bytes(url)
    except FileNotFoundError:
        return {}
    try:
        table = pq.read_table(io.BytesIO(data), columns=MARK_SCHEMA.names).cast(MARK_SCHEMA)
    except (pa.ArrowException, ValueError) as error:
        raise UserError(
            f"{url} is not a table of marks with the columns {', '.join(MARK_SCHEMA.names)}; repair or remove it"
        ) from error
    rows: dict[str, list[_Said]] = {}
    for image_id, mark, time in zip(*(column.to_pylist() for column in table.columns), strict=True):
        if mark not in (*MARKS, None):
            raise UserError(f"{url} marks {image_id!r} as {mark!r}; marks are {', '.join(MARKS)}")
        rows.setdefault(image_id, []).append(_Said(mark, time or datetime.min.replace(tzinfo=UTC)))
    return {image_id: _last(said) for image_id, said in rows.items()}


def _last(said: Iterable[_Said]) -> _Said:
    """The last one; of those of one moment the same one, whatever their order."""
    return max(said, key=lambda one: (one.time, one.mark or ""))


def _merged(tables: Iterable[Mapping[str, _Said]]) -> dict[str, Marked]:
    said: dict[str, _Said] = {}
    for table in tables:
        for image_id, one in table.items():
            said[image_id] = _last((one, said.get(image_id, one)))
    return {image_id: Marked(one.mark, one.time) for image_id, one in said.items() if one.mark is not None}


def keeps(review: Review, marked: Marked | None) -> bool:
    """Whether a training with the setting `review` learns from an image with this mark."""
    return (marked.mark if marked else None) not in _LEFT_OUT[review]


def marks_for_training(run: RunDirectory, network: Network, review: Review) -> dict[str, Marked]:
    """The marks that a training uses: those that it began with, else the run's as they are now.

    Raises:
        UserError: when there are none.
    """
    marks = read_marks(used_marks_url(run, network)) or run_marks(run)
    if not marks:
        raise UserError(
            f"config: {network}.train.review is {review!r}, but {run.root} has no marks; mark images with "
            f"pfit-ray serve {run.root}, or set the field to null"
        )
    return marks
