"""What people say about images: accept, reject or needs work, in one table of the run."""

import io
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
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
"""A row for each marked image, sorted by id; `time` is when it was marked."""

_LEFT_OUT: dict[Review, tuple[Mark | None, ...]] = {
    "not_rejected": ("reject",),
    "no_complaints": ("reject", "needs_work"),
    "accepted": ("reject", "needs_work", None),
}


class Marked(NamedTuple):
    """The mark of one image, and when it was given."""

    mark: Mark
    time: datetime


def marks_url(run: RunDirectory) -> str:
    """Where a run's marks lie."""
    return run.url("review", "marks.parquet")


def used_marks_url(run: RunDirectory, network: Network) -> str:
    """Where the marks that a training uses lie: those that existed when it began."""
    return run.url("train", network, "marks.parquet")


def read_marks(url: str) -> dict[str, Marked]:
    """The marks of a table by image id; none if there is no table. Of several marks of an image the last counts.

    Raises:
        UserError: when it is no table of marks.
    """
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
    found: dict[str, Marked] = {}
    for image_id, mark, time in sorted(zip(*(column.to_pylist() for column in table.columns), strict=True), key=_age):
        if mark not in MARKS:
            raise UserError(f"{url} marks {image_id!r} as {mark!r}; marks are {', '.join(MARKS)}")
        found[image_id] = Marked(mark, time)
    return found


def write_marks(url: str, marks: Mapping[str, Marked]) -> None:
    """Write a table of marks, atomically; equal marks give equal bytes."""
    ids = sorted(marks)
    columns = [ids, [marks[one].mark for one in ids], [marks[one].time for one in ids]]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, MARK_SCHEMA, strict=True)]
    buffer = io.BytesIO()
    pq.write_table(pa.table(arrays, schema=MARK_SCHEMA), buffer, compression="zstd")
    storage.write_bytes(url, buffer.getvalue())


class MarkTable:
    """A run's marks, changed one at a time by several threads.

    Args:
        run: the run directory.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._url = marks_url(run)
        self._lock = threading.Lock()
        self._marks: dict[str, Marked] = {}
        self._entry: storage.Entry | None = None
        """The file whose marks are held."""

    def read(self) -> dict[str, Marked]:
        """All marks, as `read_marks`."""
        with self._lock:
            self._read_changes()
            return dict(self._marks)

    def set(self, image_id: str, mark: Mark | None) -> dict[str, Marked]:
        """Mark an image, or with None take its mark away, and return all marks.

        Where others have changed the table, it is read again first.
        """
        with self._lock:
            self._read_changes()
            marks = dict(self._marks)
            marks.pop(image_id, None)
            if mark is not None:
                marks[image_id] = Marked(mark, datetime.now(UTC))
            if marks != self._marks:
                write_marks(self._url, marks)
                self._marks, self._entry = marks, self._found()
            return dict(self._marks)

    def _read_changes(self) -> None:
        entry = self._found()
        if entry is None or entry.version is None or entry != self._entry:
            self._marks, self._entry = read_marks(self._url), entry

    def _found(self) -> storage.Entry | None:
        return next(storage.list_entries(self._url, threads=0), None)


def keeps(review: Review, marked: Marked | None) -> bool:
    """Whether a training with the setting `review` learns from an image with this mark."""
    return (marked.mark if marked else None) not in _LEFT_OUT[review]


def marks_for_training(run: RunDirectory, network: Network, review: Review) -> dict[str, Marked]:
    """The marks that a training uses: those that it began with, else the run's as they are now.

    Raises:
        UserError: when there are none.
    """
    marks = read_marks(used_marks_url(run, network)) or read_marks(marks_url(run))
    if not marks:
        raise UserError(
            f"config: {network}.train.review is {review!r}, and {run.root} has no marks; mark images with "
            f"pfit-ray serve {run.root}, or set the field to null"
        )
    return marks


def _age(row: tuple[str, str, datetime | None]) -> datetime:
    return row[2] or datetime.min.replace(tzinfo=UTC)
