"""The one place that touches storage: local paths and every URL that fsspec opens."""

import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from glob import has_magic
from typing import Any, BinaryIO, NamedTuple, TypeVar

from pfit_ray.constants import LOCAL_PROTOCOLS
from pfit_ray.errors import RowError, UserError
from pfit_ray.storage.drivers import AZURE, GCS, S3, open_system, options, protocols_of
from pfit_ray.storage.errors import answers, explained, row_error
from pfit_ray.storage.listing import PAGE, PARTIAL_SUFFIX, THREADS, LocalTree, Tree, list_tree, system_tree, version_tag
from pfit_ray.storage.retry import patiently
from pfit_ray.storage.threads import prefetch

T = TypeVar("T")

_EXISTS = {409, 412}
"""HTTP statuses of a conditional write whose file is there, or is being written by another."""
_UNKNOWN_REQUEST = 501
_UNKNOWN_UPLOAD = "NoSuchUpload"

_REMOVERS = 16
"""Objects that are removed at the same time."""


def is_local(url: str) -> bool:
    """Whether a URL is a path of this machine."""
    return "://" not in url or url.startswith(LOCAL_PROTOCOLS)


def absolute(url: str) -> str:
    """The URL as every worker understands it: local paths absolute and without `file://`."""
    if is_local(url):
        return _local_path(url)
    return url if url.endswith("://") else url.rstrip("/")


def join(url: str, *parts: str) -> str:
    """URL of something below `url`; in a chained URL the path belongs to the first link that has one."""
    links = [url] if is_local(url) else url.split("::")
    place = next((i for i, link in enumerate(links) if "://" in link), 0)
    for part in parts:
        head = links[place]
        bare_protocol = head.endswith("://") and head not in LOCAL_PROTOCOLS
        links[place] = (head if bare_protocol else head.rstrip("/") + "/") + part.strip("/")
    return "::".join(links)


def exists(url: str) -> bool:
    """Whether a file or folder exists; raises UserError where access is refused."""
    with explained(url):
        if is_local(url):
            return os.path.exists(_local_path(url))
        system, path = open_system(url)
        try:
            _patiently(lambda: system.info(path))
        except FileNotFoundError:
            return False
        return True


def read_bytes(url: str, start: int | None = None, end: int | None = None) -> bytes:
    """Read a file or the bytes [start, end) of it.

    Raises:
        FileNotFoundError: when it does not exist.
        UserError: when access is refused or the storage's driver is not installed.
    """
    with explained(url):
        return _read(url, start, end)


def write_bytes(url: str, data: bytes) -> None:
    """Write a file so that readers see the old bytes or all the new ones, and create its folders.

    On disk the bytes go to a temporary file beside the target, which then takes its name. An object store gets one PUT,
    or from 100 MiB on a multipart upload, which becomes visible only at its end.

    Raises:
        UserError: when the place is full, access is refused, the storage does not answer, or its driver is not
            installed.
    """
    with explained(url):
        if is_local(url):
            _patiently(lambda: _write_local(_local_path(url), lambda file: file.write(data)))
        else:
            system, path = open_system(url)
            _patiently(lambda: _write_object(lambda: system.pipe_file(path, data)))


def create_bytes(url: str, data: bytes) -> bool:
    """Write a small file where there is none, and say whether it was written. If several try, one succeeds.

    It is created exclusively on disk, and by a conditional request in S3, GCS and Azure. A store that knows no such
    request refuses only those who come a moment later.

    Raises:
        UserError: as `write_bytes` does.
    """
    with explained(url):
        if is_local(url):
            path = _local_path(url)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            try:
                with open(path, "xb") as file:
                    file.write(data)
            except FileExistsError:
                return False
            return True
        if exists(url):
            return False
        system, path = open_system(url)
        condition: dict[str, Any] = {"overwrite": False} if protocols_of(system) & {*AZURE} else {"mode": "create"}
        try:
            _patiently(lambda: system.pipe_file(path, data, **condition))
        except Exception as error:
            status = next((found for found, _ in answers(error) if found is not None), None)
            if isinstance(error, FileExistsError) or status in _EXISTS:
                return False
            if status != _UNKNOWN_REQUEST:
                raise
            _patiently(lambda: _write_object(lambda: system.pipe_file(path, data)))
        return True


def upload(source: str, url: str) -> None:
    """Copy a file of this machine to a place in storage, without holding it in memory as a whole.

    Readers see the old bytes or all the new ones, as with `write_bytes`. It raises the same errors.
    """
    with explained(url):
        if is_local(url):
            _patiently(lambda: _copy_local(source, _local_path(url)))
        else:
            system, path = open_system(url)
            _patiently(lambda: _write_object(lambda: system.put_file(source, path)))


def link(source: str, url: str) -> None:
    """Make a symbolic link to a file of this machine; `url` is a path of this machine where nothing is yet."""
    with explained(url):
        path = _local_path(url)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(_local_path(source), path)


class Entry(NamedTuple):
    """A file of a listing: absolute URL, bytes, and its etag or else the time of its last change."""

    url: str
    size: int | None
    version: str | None


def list_entries(url: str, threads: int = THREADS) -> Iterator[Entry]:
    """All files below a folder or URL prefix, recursively, sorted by path; a file alone is its own listing.

    S3 and GCS are listed page by page, everything else folder by folder; see `pfit_ray.storage.listing`. A place that
    does not exist yields nothing.

    Args:
        url: folder, prefix or file.
        threads: sub-folders that are listed in advance; 0: none.

    Raises:
        UserError: when access is refused or the storage's driver is not installed.
    """
    url = absolute(url)
    with explained(url):
        if is_local(url):
            tree: Tree = LocalTree(url)
        else:
            system, path = open_system(url)
            try:
                info = _patiently(lambda: system.info(path))
            except FileNotFoundError:
                return
            if info["type"] == "file":
                yield Entry(url, info["size"], version_tag(info))
                return
            tree = system_tree(system, path, _patiently)
        for found in list_tree(tree, threads):
            yield Entry(join(url, found.path) if found.path else url, found.size, found.version)


def list_files(url: str) -> Iterator[tuple[str, int]]:
    """URL and size of all files below a folder or URL prefix, recursively, sorted by path.

    One folder is listed at a time, so a large tree streams; see `list_entries`.
    """
    for entry in list_entries(url, threads=0):
        yield entry.url, entry.size or 0


def other_case(url: str) -> str | None:
    """The name that a file on disk really has, where it differs from the URL's in capital letters.

    File systems that do not tell these apart (of macOS and Windows, mostly) open `Cat.png` where `cat.png` lies.
    """
    if not is_local(url):
        return None
    folder, name = os.path.split(_local_path(url))
    try:
        if name.swapcase() == name or not os.path.samefile(*(os.path.join(folder, n) for n in (name, name.swapcase()))):
            return None
        names = os.listdir(folder)
    except OSError:
        return None
    return None if name in names else next((one for one in names if one.lower() == name.lower()), None)


def remove(url: str) -> None:
    """Remove a file, or a folder with all below it. Nothing happens where nothing exists."""
    with explained(url):
        try:
            if not is_local(url):
                _remove_remote(*open_system(url))
            elif os.path.isdir(path := _local_path(url)) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.remove(path)
        except FileNotFoundError:
            return


def remove_all(urls: Sequence[str]) -> None:
    """Remove some files of one place, in S3 a thousand by one request. Nothing happens where nothing exists."""
    if not urls:
        return
    if is_local(urls[0]):
        for url in urls:
            remove(url)
        return
    with explained(urls[0]):
        system = open_system(urls[0])[0]
        paths = [open_system(url)[1] for url in urls]
        if not protocols_of(system) & {*S3}:
            for _ in prefetch(partial(_remove_one, system), paths, _REMOVERS, 4 * _REMOVERS):
                pass
            return
        for start in range(0, len(paths), PAGE):
            bucket = system.split_path(paths[start])[0]
            objects = [{"Key": system.split_path(path)[1]} for path in paths[start : start + PAGE]]
            wanted = {"Bucket": bucket, "Delete": {"Objects": objects, "Quiet": True}}
            answer = _patiently(partial(system.call_s3, "delete_objects", **wanted, **system.req_kw))
            if refused := answer.get("Errors"):
                first = refused[0]
                raise OSError(f"{bucket}/{first.get('Key')} cannot be removed: {first.get('Code')}")


def fetch(url: str, start: int | None = None, end: int | None = None) -> bytes:
    """Read one row's file, or the bytes [start, end) of it.

    Raises:
        RowError: `missing`, `denied`, `empty_file`, `timeout`, or `io_error` for everything else that storage does.
        UserError: when credentials are absent or no longer valid, which is no row's fault, or the storage's driver is
            not installed.
    """
    try:
        data = _read(url, start, end)
    except UserError:
        raise
    except Exception as error:
        raise row_error(url, error) from error
    if not data and start is None:
        raise RowError("empty_file", f"{url} has no bytes")
    return data


def _local_path(url: str) -> str:
    for protocol in LOCAL_PROTOCOLS:
        url = url.removeprefix(protocol)
    return os.path.abspath(os.path.expanduser(url))


def _patiently(action: Callable[[], T]) -> T:
    return patiently(action, options())


def _read(url: str, start: int | None, end: int | None) -> bytes:
    if is_local(url):
        return _patiently(lambda: _read_local(_local_path(url), start or 0, end))
    system, path = open_system(url)
    return _patiently(lambda: system.cat_file(path, start=start, end=end))


def _read_local(path: str, start: int, end: int | None) -> bytes:
    with open(path, "rb") as file:
        file.seek(start)
        return file.read() if end is None else file.read(end - start)


def _copy_local(source: str, target: str) -> None:
    with open(source, "rb") as content:
        _write_local(target, lambda file: shutil.copyfileobj(content, file))


def _write_local(target: str, fill: Callable[[BinaryIO], object]) -> None:
    folder = os.path.dirname(target)
    os.makedirs(folder, exist_ok=True)
    partial = os.path.join(folder, f".{uuid.uuid4().hex}{PARTIAL_SUFFIX}")
    try:
        with open(partial, "xb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
    except BaseException:
        if os.path.exists(partial):
            os.remove(partial)
        raise
    with suppress(OSError):  # the new name outlives a power cut too, where the file system can promise it
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write_object(write: Callable[[], object]) -> None:
    try:
        write()
    except FileNotFoundError as error:
        # The last request of a multipart upload is repeated when its answer was lost. S3 does not know the upload then.
        if any(code == _UNKNOWN_UPLOAD for _, code in answers(error)):
            raise ConnectionError(f"the end of a multipart upload was not answered: {error}") from None
        raise


def _remove_one(system: Any, path: str) -> None:
    with suppress(FileNotFoundError):
        _patiently(lambda: system.rm_file(path))


def _remove_remote(system: Any, path: str) -> None:
    """Remove an object and all below it, each by its own name.

    fsspec's own removal takes `*`, `?` and `[` in a path for patterns, and s3fs does not tell what S3 has kept.
    """
    info = _patiently(lambda: system.info(path))
    if info["type"] == "file":
        _remove_one(system, path)
        return
    remove_one = partial(_remove_one, system)
    for _ in prefetch(remove_one, _patiently(lambda: system.find(path)), _REMOVERS, 4 * _REMOVERS):
        pass
    with suppress(FileNotFoundError, NotImplementedError):
        if not protocols_of(system) & {*S3, *GCS} and not has_magic(path):
            _patiently(lambda: system.rm(path, recursive=True))  # what is left are empty folders
