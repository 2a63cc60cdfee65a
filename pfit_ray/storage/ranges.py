"""Files in storage that can be read from any place, a few ranges at a time."""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from pfit_ray import storage
from pfit_ray.errors import RowError, UserError
from pfit_ray.storage.errors import row_error

BLOCK = 1 << 20
"""Bytes of one read from remote storage: enough to outweigh a request's latency, little enough to skip past."""

_LOCAL_BLOCK = 1 << 16
_COLUMN_BLOCK = 1 << 16
"""Columns of plain values are small, and lie between large ones."""


def open_seekable(
    url: str,
    size: int | None = None,
    *,
    block: int = BLOCK,
    read: Callable[[str, int, int], bytes] = storage.read_bytes,
) -> BinaryIO:
    """Open a file for reading.

    Args:
        url: path or URL.
        size: its bytes, if they are known; saves a request.
        block: bytes of one read from remote storage.
        read: reads the bytes [start, end) of a URL; its errors pass through.

    Raises:
        FileNotFoundError: when there is no such file.
        UserError: when access is refused or the storage's driver is not installed.
    """
    if storage.is_local(url):
        return open(storage.absolute(url), "rb", buffering=_LOCAL_BLOCK)
    if size is None:
        entry = next(storage.list_entries(url, threads=0), None)
        if entry is None or entry.url != url or entry.size is None:
            raise FileNotFoundError(url)
        size = entry.size
    return cast(BinaryIO, io.BufferedReader(_Ranges(url, size, read), block))


def read_columns(url: str, columns: Sequence[str], size: int | None = None) -> pa.Table:
    """Some columns of a Parquet file, as far as it has them. The others, which may be large, are not read.

    Args:
        url: path or URL.
        columns: their names.
        size: the file's bytes, if they are known.

    Raises:
        FileNotFoundError: when there is no such file.
        pyarrow.ArrowException: when it is no Parquet file.
        UserError: as `open_seekable`.
    """
    with open_seekable(url, size, block=_COLUMN_BLOCK) as file:
        return pq.ParquetFile(file).read(list(columns), use_threads=False)


@contextmanager
def open_for_rows(url: str, size: int | None = None) -> Iterator[BinaryIO]:
    """Open a file that holds images. Whatever goes wrong with it, while it is used too, is a RowError.

    Args:
        url: path or URL.
        size: its bytes, if they are known.

    Raises:
        RowError: `bad_file` where a Parquet file is damaged, else as `storage.fetch` does.
        UserError: as `storage.fetch` does.
    """
    try:
        with open_seekable(url, _size_for_rows(url) if size is None else size, read=storage.fetch) as file:
            yield file
    except (OSError, pa.ArrowException) as error:
        if isinstance(error, OSError) and (error.errno is not None or isinstance(error, FileNotFoundError)):
            raise row_error(url, error) from error
        raise RowError("bad_file", f"{url} is damaged: {' '.join(str(error).split())}") from error


def _size_for_rows(url: str) -> int | None:
    """Size of a remote file; a refusal fails the rows in it."""
    if storage.is_local(url):
        return None
    try:
        entry = next(storage.list_entries(url, threads=0), None)
    except UserError as error:
        if isinstance(error.__cause__, Exception) and not isinstance(error.__cause__, ImportError):
            raise row_error(url, error.__cause__) from error
        raise
    if entry is None or entry.url != url:
        raise RowError("missing", f"{url} does not exist")
    return entry.size


class _Ranges(io.RawIOBase):
    """A remote file that is read by byte ranges."""

    def __init__(self, url: str, size: int, read: Callable[[str, int, int], bytes]) -> None:
        self.url = url
        self.size = size
        self.read_range = read
        self.position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.size}[whence]
        self.position = max(0, start + offset)
        return self.position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # any writable buffer, as CPython gives
        end = min(self.position + len(buffer), self.size)
        if end <= self.position:
            return 0
        data = self.read_range(self.url, self.position, end)
        buffer[: len(data)] = data
        self.position += len(data)
        return len(data)
