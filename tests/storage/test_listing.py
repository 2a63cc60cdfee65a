import os
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from support.s3 import S3, VARIABLES, s3_server

from pfit_ray import storage
from pfit_ray.config.storage import StorageConfig
from pfit_ray.storage import drivers, listing
from pfit_ray.storage.listing import Found, LocalTree, Page, PagedTree, SystemTree, list_tree, system_tree, version_tag

NAMES = ["B", "a-b", "a.txt", "a/b/c", "a/z", "b.txt", "é/1"]


class Store:
    """An object store's listing of sorted keys, `page` entries at a time, that counts its requests."""

    def __init__(self, keys: list[str], page: int) -> None:
        self.keys = sorted(keys)
        self.page = page
        self.asked: list[tuple[str, str, str | None]] = []

    def __call__(self, prefix: str, delimiter: str, token: str | None) -> Page:
        self.asked.append((prefix, delimiter, token))
        entries: list[str] = []
        for key in self.keys:
            if key.startswith(prefix):
                head, slash, _ = key[len(prefix) :].partition("/")
                entry = prefix + head + "/" if delimiter and slash else key
                if entry not in entries[-1:]:
                    entries.append(entry)
        start = int(token or 0)
        shown = entries[start : start + self.page]
        end = start + self.page
        folders = [entry for entry in shown if delimiter and entry.endswith("/") and entry != prefix]
        files = [(key, len(key), f"tag of {key}") for key in shown if key not in folders]
        return Page(files, folders, str(end) if end < len(entries) else None)


def paths(found: Iterator[Found]) -> list[str]:
    return [one.path for one in found]


@pytest.mark.parametrize("threads", [0, 3])
def test_every_kind_of_tree_gives_the_same_order(tmp_path: Path, threads: int) -> None:
    system = MemoryFileSystem()
    for name in NAMES:
        system.pipe_file(f"/tree-{tmp_path.name}/{name}", b"12")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"12")
    trees = [LocalTree(str(tmp_path)), SystemTree(system, f"/tree-{tmp_path.name}/")]
    trees += [PagedTree(Store([f"p/{name}" for name in NAMES], page), "p/") for page in (1, 2, 3, 100)]
    for one in trees:
        assert paths(list_tree(one, threads)) == sorted(NAMES)
    assert next(iter(list_tree(trees[0], threads))) == Found("B", 2, str((tmp_path / "B").stat().st_mtime_ns))
    assert next(iter(list_tree(trees[-1], threads))) == Found("B", 3, "tag of p/B")


def test_markers_of_folders_are_no_files() -> None:
    keys = ["p/", "p/a/", "p/a/x", "p/b"]
    assert paths(list_tree(PagedTree(Store(keys, 1), "p/"))) == ["a/x", "b"]
    assert paths(list_tree(PagedTree(Store(keys, 100), "p/"))) == ["a/x", "b"]


def test_a_large_prefix_costs_a_request_per_page_not_per_folder() -> None:
    store = Store([f"{folder:03d}/{number}" for folder in range(120) for number in range(2)], page=50)
    assert len(paths(list_tree(PagedTree(store, "")))) == 240
    assert len(store.asked) == 1 + 5


def test_sub_folders_are_asked_at_the_same_time() -> None:
    meeting = threading.Barrier(4, timeout=20)
    store = Store([f"{folder:02d}/{number}" for folder in range(20) for number in range(3)], page=60)

    def ask(prefix: str, delimiter: str, token: str | None) -> Page:
        if prefix in ("00/", "01/", "02/", "03/"):
            meeting.wait()  # broken unless four requests are under way
        return store(prefix, delimiter, token)

    assert len(paths(list_tree(PagedTree(ask, ""), threads=4))) == 60


def test_few_sub_folders_are_split_further() -> None:
    keys = [f"data/{split}/{number:02d}/x" for split in ("train", "val") for number in range(30)]
    store = Store(keys, page=100)
    assert paths(list_tree(PagedTree(store, ""))) == keys
    assert {prefix for prefix, delimiter, _ in store.asked if not delimiter} == {key[:-1] for key in keys}


@pytest.mark.parametrize("folders", [1, 50])
def test_memory_holds_a_bounded_part_of_a_listing(folders: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """100,000 keys of a store, in one prefix or in many: far less is held than they are together."""
    monkeypatch.setattr(listing, "HEAD", 500)
    count = 100_000 // folders

    def ask(prefix: str, delimiter: str, token: str | None) -> Page:
        if delimiter and folders > 1:
            return Page([], [f"{number:03d}/" for number in range(folders)], None)
        start = int(token or 0)
        files = [(f"{prefix}{number:09d}.jpg", 1, f"{number:032x}") for number in range(start, start + 1000)]
        return Page(files, [], str(start + 1000) if start + 1000 < count else None)

    listed = list_tree(PagedTree(ask, ""), threads=4)
    tracemalloc.start()
    assert sum(1 for _ in listed) == 100_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8e6  # all entries together take 30 MB


def test_links_and_special_files(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "up").symlink_to(tmp_path)
    (tmp_path / "folder" / "x").write_bytes(b"1")
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / ".half.pfit-part").write_bytes(b"1")
    found = list(list_tree(LocalTree(str(tmp_path))))
    assert [one[:2] for one in found] == [("dangling", 0), ("folder/x", 1), ("link/x", 1)]
    assert next(iter(list_tree(LocalTree(str(tmp_path / "folder" / "x"))))).path == ""
    assert list(list_tree(LocalTree(str(tmp_path / "nothing")))) == []


def test_requests_are_made_by_whom_we_are_told() -> None:
    tried = []

    def twice(request: Any) -> Any:
        tried.append(request())
        return request()

    system = MemoryFileSystem()
    system.pipe_file("/patience/a", b"1")
    assert paths(list_tree(system_tree(system, "/patience", twice))) == ["a"]
    assert len(tried) == 1


def test_version_tag() -> None:
    assert version_tag({"ETag": '"0123"', "LastModified": 1}) == "0123"
    assert version_tag({"mtime": 12.5}) == "12.5"
    assert version_tag({"size": 3}) is None


class Gcs:
    """The one call of gcsfs that a listing makes, on three objects, two to a page."""

    protocol = ("gs", "gcs")

    def split_path(self, path: str) -> tuple[str, str, None]:
        bucket, _, key = path.partition("/")
        return bucket, key, None

    def call(self, method: str, path: str, *args: str, json_out: bool, **query: Any) -> dict[str, Any]:
        assert (method, path, args, json_out) == ("GET", "b/{}/o", ("bucket",), True)
        assert query["prefix"] == "photos/"
        if query.get("delimiter"):
            items = [{"name": "photos/a", "size": "1", "etag": "A"}]
            return {"items": items, "nextPageToken": "more"}
        if query.get("pageToken") == "t":
            return {"items": [{"name": "photos/c", "size": "3", "etag": "C"}]}
        items = [{"name": f"photos/{name}", "size": "1", "etag": name.upper()} for name in "ab"]
        return {"items": items, "nextPageToken": "t"}


def test_google_cloud_storage_is_listed_in_pages() -> None:
    found = list(list_tree(system_tree(Gcs(), "bucket/photos")))
    assert found == [Found("a", 1, "A"), Found("b", 1, "B"), Found("c", 3, "C")]


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with s3_server() as running:
        yield running


@pytest.mark.parametrize("page", [2, 1000])
def test_s3_is_listed_in_pages(server: S3, page: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(drivers, "_options", StorageConfig(endpoint_url=server.url))
    monkeypatch.setattr(listing, "PAGE", page)
    root = f"s3://bucket/page-{page}"
    for name in NAMES:
        storage.write_bytes(f"{root}/{name}", name.encode())
    entries = list(storage.list_entries(root))
    assert [entry.url for entry in entries] == [f"{root}/{name}" for name in sorted(NAMES)]
    assert [entry.size for entry in entries] == [len(name.encode()) for name in sorted(NAMES)]
    assert len({entry.version for entry in entries if len(entry.version or "") == 32}) == len(NAMES)  # MD5 etags
    assert list(storage.list_entries(root, threads=0)) == entries
    assert list(storage.list_entries(f"{root}/a/z")) == [entry for entry in entries if entry.url.endswith("a/z")]
    assert list(storage.list_entries(f"{root}/nothing")) == []
