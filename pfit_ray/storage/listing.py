"""Every file below a folder or URL prefix, sorted by path, as a stream."""

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

from pfit_ray.storage.drivers import protocols_of
from pfit_ray.storage.threads import chain_ahead

THREADS = 16
"""Sub-folders that are listed at the same time, and in advance."""
HEAD = 16_384
"""Files of a sub-folder that are held in advance."""
FAN_OUT = 16
"""With fewer sub-folders than this, their sub-folders are listed in parallel too."""
MAX_SPLITS = 4
"""How many levels of folders are searched for sub-folders to list in parallel."""
PAGE = 1000
"""Entries of a page; S3 gives no more."""
PARTIAL_SUFFIX = ".pfit-part"
"""The ending of half-written local files, which are not listed."""

Request = Callable[[Callable[[], Any]], Any]
"""Makes one request."""

Names = list[str]
"""Names in a folder, sorted; those of folders end in "/"."""


class Found(NamedTuple):
    """A file: path below the root ("": the root itself), bytes, version tag."""

    path: str
    size: int | None
    version: str | None


class Tree:
    """A place with folders and files; paths are relative to its root, and those of folders end in "/"."""

    def level(self, folder: str) -> tuple[Names, Mapping[str, Any]] | None:
        """The names directly in a folder, and what `file` needs to know of each.

        Returns:
            None where there are so many that they come in pages.
        """
        raise NotImplementedError

    def file(self, path: str, info: Any) -> Found | None:
        """One file; None where it does not count."""
        raise NotImplementedError

    def below(self, folder: str) -> Iterator[Found]:
        """Every file below a folder, sorted by path."""
        level = self.level(folder)
        assert level is not None, "trees that come in pages list them"
        names, infos = level
        for name in names:
            if name.endswith("/"):
                yield from self.below(folder + name)
            else:
                yield from self.files(folder, [name], infos)

    def files(self, folder: str, names: Names, infos: Mapping[str, Any]) -> Iterator[Found]:
        """The files of these names in a folder."""
        for name in names:
            found = self.file(folder + name, infos.get(name))
            if found is not None:
                yield found


def _once(request: Callable[[], Any]) -> Any:
    return request()


def list_tree(tree: Tree, threads: int = THREADS) -> Iterator[Found]:
    """Every file of a tree, sorted by path.

    Sub-folders are listed in advance by threads, a bounded number of their files each; a folder that has more
    than one page of entries comes page by page.

    Args:
        tree: what to list.
        threads: 0: nothing is listed in advance.
    """
    return chain_ahead(_streams(tree, "", MAX_SPLITS), threads, ahead=threads, head=HEAD)


def _streams(tree: Tree, folder: str, splits: int) -> Iterator[Callable[[], Iterator[Found]]]:
    """A folder as consecutive streams: runs of its files, and its sub-folders."""
    level = tree.level(folder)
    if level is None:
        yield partial(tree.below, folder)
        return
    names, infos = level
    split = splits > 1 and sum(name.endswith("/") for name in names) < FAN_OUT
    for is_folder, group in groupby(names, key=lambda name: name.endswith("/")):
        if not is_folder:
            yield partial(tree.files, folder, list(group), infos)
            continue
        for name in group:
            if split:
                yield from _streams(tree, folder + name, splits - 1)
            else:
                yield partial(tree.below, folder + name)


class LocalTree(Tree):
    """A folder of this machine, or one file.

    Folders reached again through a link to one of their parents are not entered; a dangling link has 0 bytes.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.real = os.path.realpath(root)

    def level(self, folder: str) -> tuple[Names, Mapping[str, Any]]:
        """Names in a folder."""
        place = self._place(folder)
        if not os.path.isdir(place):
            return [""] if os.path.isfile(place) and not folder else [], {}
        if self._is_loop(folder):
            return [], {}
        with os.scandir(place) as entries:
            names = [entry.name + "/" * _is_folder(entry) for entry in entries]
        return sorted(names), {}

    def file(self, path: str, info: Any) -> Found | None:
        """A regular file or a dangling link."""
        if path.endswith(PARTIAL_SUFFIX):
            return None
        try:
            status = os.stat(self._place(path))
        except OSError:
            return Found(path, 0, None)
        return Found(path, status.st_size, str(status.st_mtime_ns)) if stat.S_ISREG(status.st_mode) else None

    def _place(self, path: str) -> str:
        return os.path.join(self.root, path.rstrip("/")) if path else self.root

    def _is_loop(self, folder: str) -> bool:
        real = os.path.realpath(self._place(folder))
        if real == os.path.normpath(os.path.join(self.real, folder)):
            return False
        parts = folder.rstrip("/").split("/")
        parents = ("/".join(parts[:count]) for count in range(len(parts)))
        return any(os.path.realpath(self._place(parent)) == real for parent in parents)


class SystemTree(Tree):
    """A folder of any fsspec file system, listed folder by folder.

    Args:
        system: the file system.
        root: path in it.
        request: makes one request, again where it fails for a passing reason.
    """

    def __init__(self, system: Any, root: str, request: Request = _once) -> None:
        self.system = system
        self.root = root.rstrip("/")
        self.request = request

    def level(self, folder: str) -> tuple[Names, Mapping[str, Any]]:
        """Names in a folder, with fsspec's info of each."""
        place = "/".join(part for part in (self.root, folder.rstrip("/")) if part)
        try:
            entries = self.request(lambda: self.system.ls(place, detail=True))
        except (FileNotFoundError, NotADirectoryError):
            return [], {}
        infos: dict[str, Any] = {}
        for entry in entries:
            own = entry["name"].rstrip("/")
            is_folder = entry["type"] == "directory"
            if own.strip("/") != place.strip("/"):
                infos[own.rpartition("/")[2] + "/" * is_folder] = entry
        return sorted(infos), infos

    def file(self, path: str, info: Any) -> Found:
        """A file as fsspec describes it."""
        return Found(path, info["size"], version_tag(info))


class Page(NamedTuple):
    """One page of an object store's listing."""

    files: list[tuple[str, int, str | None]]
    """Key, bytes, version tag; sorted by key."""
    folders: list[str]
    """Common prefixes up to the delimiter; they end in "/"."""
    token: str | None
    """Asks for the next page."""


AskPage = Callable[[str, str, str | None], Page]
"""One request of a listing: prefix, delimiter ("" or "/"), token of the page."""


class PagedTree(Tree):
    """A prefix of an object store, which lists keys in their order, a page at a time.

    A folder that does not fit on one page is listed as one stream of keys, whatever folders it has. This costs one
    request per page, not one per folder.

    Args:
        ask: makes one request.
        prefix: what all keys begin with: "" or something that ends in "/".
    """

    def __init__(self, ask: AskPage, prefix: str) -> None:
        self.ask = ask
        self.prefix = prefix

    def level(self, folder: str) -> tuple[Names, Mapping[str, Any]] | None:
        """What fits on one page."""
        page = self.ask(self.prefix + folder, "/", None)
        if page.token is not None:
            return None
        start = len(self.prefix + folder)
        infos: dict[str, Any] = {key[start:]: rest for key, *rest in page.files if not key.endswith("/")}
        infos.update((key[start:], None) for key in page.folders)
        return sorted(infos), infos

    def file(self, path: str, info: Any) -> Found:
        """A file of a page."""
        return Found(path, *info)

    def below(self, folder: str) -> Iterator[Found]:
        """All keys, page by page; keys that end in "/" only mark folders."""
        token: str | None = None
        while True:
            page = self.ask(self.prefix + folder, "", token)
            for key, size, version in page.files:
                if not key.endswith("/"):
                    yield Found(key[len(self.prefix) :], size, version)
            token = page.token
            if token is None:
                return


def system_tree(system: Any, path: str, request: Request = _once) -> Tree:
    """The tree below a path of an fsspec file system: in pages where it can, else folder by folder.

    Args:
        system: the file system.
        path: path in it.
        request: makes one request, again where it fails for a passing reason.
    """
    ask = next((ask for protocol, ask in _PAGED.items() if protocol in protocols_of(system)), None)
    bucket, key = system.split_path(path)[:2] if ask else ("", "")
    if ask is None or not bucket:
        return SystemTree(system, path, request)

    def page(prefix: str, delimiter: str, token: str | None) -> Page:
        found: Page = request(lambda: ask(system, bucket, prefix, delimiter, token))
        return found

    return PagedTree(page, key.rstrip("/") + "/" if key else "")


def version_tag(info: Mapping[str, Any]) -> str | None:
    """Version of a file as its storage tells it: the etag, else the time of its last change."""
    for name in ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "created"):
        value = info.get(name)
        if value:
            return value.isoformat() if isinstance(value, datetime) else str(value).strip('"')
    return None


def _s3_page(system: Any, bucket: str, prefix: str, delimiter: str, token: str | None) -> Page:
    more = {"ContinuationToken": token} if token else {}
    answer = system.call_s3(
        "list_objects_v2", Bucket=bucket, Prefix=prefix, Delimiter=delimiter, MaxKeys=PAGE, **system.req_kw, **more
    )
    return Page(
        [(entry["Key"], entry["Size"], version_tag(entry)) for entry in answer.get("Contents", ())],
        [entry["Prefix"] for entry in answer.get("CommonPrefixes", ())],
        answer["NextContinuationToken"] if answer.get("IsTruncated") else None,
    )


def _gcs_page(system: Any, bucket: str, prefix: str, delimiter: str, token: str | None) -> Page:
    asked = {"prefix": prefix, "delimiter": delimiter, "pageToken": token}
    more = {name: value for name, value in asked.items() if value}
    answer = system.call("GET", "b/{}/o", bucket, json_out=True, maxResults=PAGE, **more)
    return Page(
        [(entry["name"], int(entry["size"]), version_tag(entry)) for entry in answer.get("items", ())],
        list(answer.get("prefixes", ())),
        answer.get("nextPageToken"),
    )


_PAGED: dict[str, Callable[..., Page]] = {"s3": _s3_page, "gs": _gcs_page}


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
