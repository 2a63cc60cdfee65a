"""The one place that touches storage: local paths and every URL that fsspec opens."""

import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec
import fsspec.core

from pfit_ray.errors import RowError, UserError

_EXTRAS = {
    "s3": "s3", "s3a": "s3",
    "gs": "gcs", "gcs": "gcs",
    "az": "azure", "abfs": "azure", "abfss": "azure", "adl": "azure",
}  # fmt: skip
_LOCAL_PROTOCOLS = ("file://", "local://")
_PARTIAL = ".pfit-part"
_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"}


def is_local(url: str) -> bool:
    """Whether a URL is a path of this machine."""
    return "://" not in url or url.startswith(_LOCAL_PROTOCOLS)


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
        bare_protocol = head.endswith("://") and head not in _LOCAL_PROTOCOLS
        links[place] = (head if bare_protocol else head.rstrip("/") + "/") + part.strip("/")
    return "::".join(links)


def exists(url: str) -> bool:
    """Whether there is a file or folder; a UserError says that access is refused."""
    with _explained(url):
        if is_local(url):
            return os.path.exists(_local_path(url))
        system, path = _remote(url)
        try:
            system.info(path)
        except FileNotFoundError:
            return False
        return True


def read_bytes(url: str, start: int | None = None, end: int | None = None) -> bytes:
    """Read a file or the bytes [start, end) of it.

    Raises:
        FileNotFoundError: when it does not exist.
        UserError: when access is refused or the storage's driver is not installed.
    """
    with _explained(url):
        return _read(url, start, end)


def write_bytes(url: str, data: bytes) -> None:
    """Write a file so that readers see the old bytes or all the new ones, and create its folders.

    On disk the bytes go to a temporary file beside the target, which then takes its name; an object store
    gets one PUT.

    Raises:
        UserError: when access is refused or the storage's driver is not installed.
    """
    with _explained(url):
        if not is_local(url):
            system, path = _remote(url)
            system.pipe_file(path, data)
            return
        target = _local_path(url)
        folder = os.path.dirname(target)
        os.makedirs(folder, exist_ok=True)
        partial = os.path.join(folder, f".{uuid.uuid4().hex}{_PARTIAL}")
        try:
            with open(partial, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, target)
        except BaseException:
            if os.path.exists(partial):
                os.remove(partial)
            raise


def list_files(url: str) -> Iterator[tuple[str, int]]:
    """All files below a folder or URL prefix, recursively, sorted by path.

    One folder at a time is listed, so that a large tree streams. Nothing is yielded where nothing exists.
    Folders reached again through a link to one of their parents are not entered.

    Yields:
        The URL (absolute) and the size in bytes; the size of a dangling link is 0.

    Raises:
        UserError: when access is refused or the storage's driver is not installed.
    """
    url = absolute(url)
    with _explained(url):
        if is_local(url):
            yield from _walk_local(url, frozenset())
        else:
            yield from _walk_remote(*_remote(url), url)


def remove(url: str) -> None:
    """Remove a file, or a folder with all below it; silent where nothing exists."""
    with _explained(url):
        try:
            if not is_local(url):
                system, path = _remote(url)
                system.rm(path, recursive=True)
            elif os.path.isdir(path := _local_path(url)) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.remove(path)
        except FileNotFoundError:
            return


def fetch(url: str, start: int | None = None, end: int | None = None) -> bytes:
    """Read one row's file, or the bytes [start, end) of it.

    Raises:
        RowError: `missing`, `denied`, `empty_file`, or `io_error` for everything else that storage does.
        UserError: when the storage's driver is not installed.
    """
    try:
        data = _read(url, start, end)
    except UserError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RowError("missing", f"{url} does not exist") from error
    except IsADirectoryError as error:
        raise RowError("missing", f"{url} is a folder, not a file") from error
    except Exception as error:
        if _refused(error):
            raise RowError("denied", f"the storage refused access to {url}: {_text(error)}") from error
        raise RowError("io_error", f"{url} could not be read: {_text(error)}") from error
    if not data and start is None:
        raise RowError("empty_file", f"{url} has no bytes")
    return data


def _local_path(url: str) -> str:
    for protocol in _LOCAL_PROTOCOLS:
        url = url.removeprefix(protocol)
    return os.path.abspath(os.path.expanduser(url))


def _remote(url: str) -> tuple[Any, str]:
    """The file system and the path in it; listings are not cached, because other processes write too."""
    protocol = url.partition("://")[0].rpartition("::")[2]
    try:
        system, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        remedy = f'pip install "pfit-ray[{extra}]"' if extra else f"install what it asks for: {error}"
        raise UserError(f"{url}: the driver for {protocol}:// is not installed; {remedy}") from error
    except ValueError as error:
        raise UserError(f"{url}: this URL cannot be opened: {error}") from error
    return system, path


def _read(url: str, start: int | None, end: int | None) -> bytes:
    if not is_local(url):
        system, path = _remote(url)
        data: bytes = system.cat_file(path, start=start, end=end)
        return data
    with open(_local_path(url), "rb") as file:
        file.seek(start or 0)
        return file.read() if end is None else file.read(end - (start or 0))


def _walk_local(folder: str, parents: frozenset[str]) -> Iterator[tuple[str, int]]:
    if not os.path.isdir(folder):
        if os.path.isfile(folder):
            yield folder, os.path.getsize(folder)
        return
    real = os.path.realpath(folder)
    if real in parents:
        return
    with os.scandir(folder) as entries:
        found = {entry.name + "/" * _is_folder(entry): entry for entry in entries}
    for name, entry in sorted(found.items()):
        if name.endswith("/"):
            yield from _walk_local(entry.path, parents | {real})
            continue
        try:
            status = entry.stat()
        except OSError:
            yield entry.path, 0
            continue
        if stat.S_ISREG(status.st_mode) and not name.endswith(_PARTIAL):
            yield entry.path, status.st_size


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _walk_remote(system: Any, path: str, url: str) -> Iterator[tuple[str, int]]:
    try:
        entries = system.ls(path, detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return
    found = {}
    for entry in entries:
        own = entry["name"].rstrip("/")
        folder = entry["type"] == "directory"
        if own != path.rstrip("/"):
            found[own.rpartition("/")[2] + "/" * folder] = entry
        elif not folder and len(entries) == 1:
            yield url, entry["size"] or 0
    for name, entry in sorted(found.items()):
        if name.endswith("/"):
            yield from _walk_remote(system, entry["name"], join(url, name))
        else:
            yield join(url, name), entry["size"] or 0


@contextmanager
def _explained(url: str) -> Iterator[None]:
    try:
        yield
    except (NotADirectoryError, FileExistsError) as error:
        raise UserError(f"{url}: a part of this path is a file, not a folder; give another place") from error
    except Exception as error:
        if _refused(error):
            raise UserError(
                f"{url}: the storage refuses access; check its permissions and your credentials ({_text(error)})"
            ) from error
        raise


def _refused(error: Exception) -> bool:
    return isinstance(error, PermissionError) or type(error).__name__ in _NO_CREDENTIALS


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
