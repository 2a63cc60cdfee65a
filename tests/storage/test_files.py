import errno
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractFileSystem

from pfit_ray import storage
from pfit_ray.config.storage import StorageConfig
from pfit_ray.errors import RowError, UserError
from pfit_ray.storage import drivers, files
from pfit_ray.storage.errors import row_error

TROUBLES = {
    "denied": PermissionError("403 Forbidden"),
    "reset": ConnectionResetError("peer"),
    "slow": TimeoutError(),
    "keys": type("NoCredentialsError", (Exception,), {})("Unable to locate credentials"),
    "odd": RuntimeError("what\n is this"),
    "stale": OSError(errno.ESTALE, "Stale file handle"),
    "full": OSError(errno.ENOSPC, "No space left on device"),
    "quota": OSError(errno.EDQUOT, "Disk quota exceeded"),
}


class TroubledFileSystem(AbstractFileSystem):
    """A storage whose every answer is the error that the path names."""

    protocol = "troubled"

    def _fail(self, path: str) -> None:
        raise TROUBLES[self._strip_protocol(path)]

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> None:
        self._fail(path)

    def info(self, path: str, **kwargs: Any) -> None:
        self._fail(path)

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> None:
        self._fail(path)

    def pipe_file(self, path: str, value: bytes, **kwargs: Any) -> None:
        self._fail(path)


@pytest.fixture(scope="module", autouse=True)
def _troubled() -> None:
    fsspec.register_implementation("troubled", TroubledFileSystem, clobber=True)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drivers, "_options", StorageConfig(backoff_seconds=0, retries=2))


@pytest.fixture(params=["local", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "place")
    return f"memory://{tmp_path.name}"


@pytest.mark.parametrize(
    ("url", "parts", "joined"),
    [
        ("runs/mine", ("a", "b.txt"), "runs/mine/a/b.txt"),
        ("runs/mine/", ("/a/",), "runs/mine/a"),
        ("/", ("a",), "/a"),
        ("s3://bucket", ("a",), "s3://bucket/a"),
        ("memory://", ("a",), "memory://a"),
        ("file:///data/", ("a",), "file:///data/a"),
        ("zip://inner::s3://bucket/x.zip", ("a",), "zip://inner/a::s3://bucket/x.zip"),
        ("simplecache::s3://bucket/x", ("a",), "simplecache::s3://bucket/x/a"),
        ("odd::name", ("a",), "odd::name/a"),
    ],
)
def test_join(url: str, parts: tuple[str, ...], joined: str) -> None:
    assert storage.join(url, *parts) == joined


def test_is_local_and_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage.is_local("a/b")
    assert storage.is_local("file:///a/b")
    assert not storage.is_local("s3://bucket/a")
    assert storage.absolute("a/../b/") == str(tmp_path / "b")
    assert storage.absolute("file:///a/b") == "/a/b"
    assert storage.absolute("s3://bucket/a/") == "s3://bucket/a"
    assert storage.absolute("memory://") == "memory://"


def test_write_read_exists_remove(root: str) -> None:
    url = storage.join(root, "deep", "er", "x.bin")
    assert not storage.exists(url)
    storage.write_bytes(url, b"0123456789")
    storage.write_bytes(url, b"abcdefghij")
    assert storage.exists(url)
    assert storage.exists(root)
    assert storage.read_bytes(url) == storage.fetch(url) == b"abcdefghij"
    assert storage.read_bytes(url, 2, 5) == storage.fetch(url, 2, 5) == b"cde"
    assert storage.read_bytes(url, 8) == b"ij"
    storage.remove(url)
    storage.remove(url)
    assert not storage.exists(url)
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(url)


def test_upload_of_a_file(root: str, tmp_path: Path) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(b"x" * 100_000)
    url = storage.join(root, "deep", "copy.bin")
    storage.upload(str(source), url)
    assert storage.read_bytes(url) == source.read_bytes()
    source.write_bytes(b"new")
    storage.upload(str(source), url)
    assert storage.read_bytes(url) == b"new"
    assert [found for found, _ in storage.list_files(storage.join(root, "deep"))] == [url]


def test_link(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"photo")
    storage.link(str(tmp_path / "photo.jpg"), str(tmp_path / "deep" / "link.jpg"))
    assert (tmp_path / "deep" / "link.jpg").readlink() == tmp_path / "photo.jpg"
    with pytest.raises(UserError, match="a file, not a folder"):
        storage.link(str(tmp_path / "photo.jpg"), str(tmp_path / "deep" / "link.jpg"))


def test_remove_folder(root: str) -> None:
    for name in ("a", "b/c"):
        storage.write_bytes(storage.join(root, "gone", name), b"x")
    storage.write_bytes(storage.join(root, "kept"), b"x")
    storage.remove(storage.join(root, "gone"))
    assert [url.rpartition("/")[2] for url, _ in storage.list_files(root)] == ["kept"]


def test_remove_link_keeps_its_target(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "x").write_bytes(b"1")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    storage.remove(str(tmp_path / "link"))
    assert (tmp_path / "real" / "x").exists()
    assert not (tmp_path / "link").is_symlink()


def test_list_files_is_sorted_by_whole_path(root: str) -> None:
    names = ["b.txt", "a/z", "a.txt", "a/b/c", "a-b", "B"]
    for size, name in enumerate(names):
        storage.write_bytes(storage.join(root, name), b"x" * size)
    expected = [(f"{root}/{name}", names.index(name)) for name in sorted(names)]
    assert list(storage.list_files(root)) == expected
    assert list(storage.list_files(root + "/")) == expected
    assert list(storage.list_files(storage.join(root, "b.txt"))) == [(f"{root}/b.txt", 0)]
    assert list(storage.list_files(storage.join(root, "absent"))) == []


def test_list_files_gives_absolute_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(b"1")
    monkeypatch.chdir(tmp_path)
    assert list(storage.list_files(".")) == list(storage.list_files(f"file://{tmp_path}")) == [(f"{tmp_path}/x", 1)]


def test_list_files_survives_links_and_special_files(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "up").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "itself").symlink_to(tmp_path / "itself")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "z").write_bytes(b"12")
    listed = [(Path(url).name, size) for url, size in storage.list_files(str(tmp_path))]
    assert listed == [("dangling", 0), ("itself", 0), ("z", 2)]


def test_list_files_streams_folder_by_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        storage.write_bytes(str(tmp_path / name / "x"), b"1")
    opened = []
    scandir = os.scandir

    def noted(path: str) -> Any:
        opened.append(Path(path).name)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", noted)
    next(storage.list_files(str(tmp_path)))
    assert opened == [tmp_path.name, "a"]


def test_readers_never_see_half_a_file(tmp_path: Path) -> None:
    url = str(tmp_path / "x")
    contents = [bytes([value]) * 200_000 for value in (1, 2)]
    storage.write_bytes(url, contents[0])
    seen, done = set(), threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(storage.read_bytes(url))

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(20):
        storage.write_bytes(url, contents[turn % 2])
    done.set()
    reader.join()
    assert seen <= set(contents)


def test_failed_write_leaves_old_bytes_and_no_partial_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = str(tmp_path / "x")
    storage.write_bytes(url, b"old")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UserError, match=r"the storage is full .*No space.* make room, and the same command continues"):
        storage.write_bytes(url, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert storage.read_bytes(url) == b"old"


def test_partial_file_of_a_killed_writer_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / ".0123456789abcdef0123456789abcdef.pfit-part").write_bytes(b"half")
    assert list(storage.list_files(str(tmp_path))) == []


def test_written_files_have_usual_permissions(tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "x"), b"1")
    (tmp_path / "y").write_bytes(b"1")
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "y").stat().st_mode


@pytest.mark.parametrize(
    ("name", "reason"),
    [("absent", "missing"), ("file/below", "missing"), ("folder", "missing"), ("empty", "empty_file")],
)
def test_fetch_reasons_on_disk(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "empty").touch()
    with pytest.raises(RowError, match=str(tmp_path / name)) as caught:
        storage.fetch(str(tmp_path / name))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("name", "reason", "words"),
    [
        ("denied", "denied", "403 Forbidden"),
        ("reset", "io_error", "ConnectionResetError: peer"),
        ("slow", "timeout", "did not come in time: TimeoutError$"),
        ("odd", "io_error", "what is this"),
    ],
)
def test_fetch_reasons_of_a_troubled_storage(name: str, reason: str, words: str) -> None:
    with pytest.raises(RowError, match=words) as caught:
        storage.fetch(f"troubled://{name}")
    assert caught.value.reason == reason


@pytest.mark.parametrize("name", ["denied", "keys"])
@pytest.mark.parametrize(
    "action",
    [
        storage.exists,
        storage.read_bytes,
        lambda url: storage.write_bytes(url, b""),
        lambda url: list(storage.list_files(url)),
    ],
)
def test_refused_access_is_one_sentence(action: Callable[[str], object], name: str) -> None:
    with pytest.raises(UserError, match=f"troubled://{name}: the storage refuses access; check"):
        action(f"troubled://{name}")


def test_path_through_a_file_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(UserError, match="is a file, not a folder"):
        storage.write_bytes(str(tmp_path / "file" / "x"), b"1")


@pytest.mark.parametrize(("protocol", "extra"), [("s3", "s3"), ("gs", "gcs"), ("abfs", "azure")])
@pytest.mark.parametrize("action", [storage.exists, storage.fetch, storage.read_bytes])
def test_missing_driver_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, action: Callable[[str], object], protocol: str, extra: str
) -> None:
    def not_installed(*args: Any, **kwargs: Any) -> None:
        raise ImportError("Install it")

    monkeypatch.setattr(fsspec.core, "url_to_fs", not_installed)
    monkeypatch.setitem(sys.modules, "gcsfs.core", None)
    with pytest.raises(UserError, match=rf'pip install "pfit-ray\[{extra}\]"'):
        action(f"{protocol}://bucket/x")


def test_unknown_protocol_is_a_user_error() -> None:
    with pytest.raises(UserError, match="nothing://x: this URL cannot be opened: Protocol not known"):
        storage.exists("nothing://x")


def test_absent_credentials_are_no_fault_of_a_row() -> None:
    with pytest.raises(UserError, match=r"check its permissions and your credentials .*Unable to locate credentials"):
        storage.fetch("troubled://keys")


@pytest.mark.parametrize("name", ["full", "quota"])
def test_a_full_storage_is_one_sentence(name: str) -> None:
    with pytest.raises(UserError, match=f"troubled://{name}: the storage is full .* make room"):
        storage.write_bytes(f"troubled://{name}", b"")


@pytest.mark.parametrize(("name", "tries"), [("reset", 3), ("slow", 3), ("stale", 3), ("odd", 1), ("denied", 1)])
def test_only_passing_trouble_is_tried_again_and_counted(
    monkeypatch: pytest.MonkeyPatch, name: str, tries: int
) -> None:
    asked = []

    def fail(system: TroubledFileSystem, path: str, **kwargs: Any) -> None:
        asked.append(path)
        raise TROUBLES[name]

    monkeypatch.setattr(TroubledFileSystem, "cat_file", fail)
    before = storage.retries()
    with pytest.raises(RowError):
        storage.fetch(f"troubled://{name}")
    assert len(asked) == tries
    assert storage.retries() - before == tries - 1


def test_a_storage_that_does_not_work_is_one_sentence() -> None:
    with pytest.raises(
        UserError, match=r"does not work, tried 3 times \(ConnectionResetError: peer\); the same command"
    ):
        storage.write_bytes("troubled://reset", b"")


def test_trouble_that_passes_is_not_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = [TROUBLES["slow"], TROUBLES["reset"], b"here"]

    def answer(system: TroubledFileSystem, path: str, **kwargs: Any) -> bytes:
        given = answers.pop(0)
        if isinstance(given, Exception):
            raise given
        return given

    monkeypatch.setattr(TroubledFileSystem, "cat_file", answer)
    assert storage.fetch("troubled://slow") == b"here"


@pytest.mark.parametrize("sign", ["*", "?", "["])
def test_signs_of_patterns_are_removed_as_they_stand(root: str, sign: str) -> None:
    for name in (f"run{sign}", "run1", "run"):
        storage.write_bytes(storage.join(root, name, "x"), b"1")
    storage.remove(storage.join(root, f"run{sign}"))
    assert [url.removeprefix(root) for url, _ in storage.list_files(root)] == ["/run/x", "/run1/x"]


@pytest.mark.parametrize(
    "action", [storage.exists, storage.fetch, storage.read_bytes, lambda url: storage.write_bytes(url, b"")]
)
def test_credentials_in_urls_are_refused_and_not_repeated(action: Callable[[str], object]) -> None:
    with pytest.raises(UserError, match=r"://\*\*\*@bucket/x: this URL contains credentials") as caught:
        action("memory://me:sesame@bucket/x")
    assert "sesame" not in str(caught.value)


def test_a_refusal_of_google_is_known_by_whatever_words() -> None:
    validate = pytest.importorskip("gcsfs.retry").validate_response
    with pytest.raises(OSError, match="Forbidden") as caught:
        validate(403, b"", "bucket/x")
    caught.value.args = ("Verboten",)
    assert row_error("gs://bucket/x", caught.value).reason == "denied"
    assert row_error("gs://bucket/x", OSError("Forbidden: fruit")).reason == "io_error"


class BlobFileSystem(MemoryFileSystem):
    """Asked as adlfs is: a condition is the argument `overwrite`, and other words are none."""

    protocol = ("abfs", "az", "abfss")
    store: ClassVar[dict[str, Any]] = {}

    def pipe_file(self, path: str, value: bytes, overwrite: bool = True, max_concurrency: int | None = None) -> None:
        if not overwrite and path in self.store:
            raise FileExistsError(path)
        super().pipe_file(path, value)


def test_of_several_who_create_a_blob_of_azure_one_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "open_system", lambda url: (BlobFileSystem(), url.removeprefix("az:/")))
    monkeypatch.setattr(files, "exists", lambda url: False)  # all look at the same moment
    assert [storage.create_bytes("az://bucket/lock", data) for data in (b"1", b"2")] == [True, False]
    assert BlobFileSystem().cat_file("/bucket/lock") == b"1"


@pytest.mark.parametrize(("code", "tries"), [("NoSuchUpload", 3), ("NoSuchBucket", 1)])
def test_the_end_of_an_upload_is_known_by_its_code(monkeypatch: pytest.MonkeyPatch, code: str, tries: int) -> None:
    asked = []

    class Store:
        def pipe_file(self, path: str, data: bytes) -> None:
            asked.append(path)
            cause = Exception()
            cause.response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 404}}  # type: ignore[attr-defined]
            raise FileNotFoundError("no bucket my-uploads, or other words") from cause

    monkeypatch.setattr(files, "open_system", lambda url: (Store(), url))
    with pytest.raises((UserError, FileNotFoundError)):
        storage.write_bytes("s3://my-uploads/x", b"data")
    assert len(asked) == tries


@pytest.mark.parametrize("protocol", ["", "memory://"])
def test_removing_many(tmp_path: Path, protocol: str) -> None:
    root = f"{protocol}{tmp_path if not protocol else tmp_path.name}"
    urls = [f"{root}/{number}.json" for number in range(5)]
    for url in urls:
        storage.write_bytes(url, b"{}")
    storage.remove_all([*urls[:2], f"{root}/nothing.json", *urls[3:]])
    assert [url for url, _ in storage.list_files(root)] == [storage.absolute(urls[2])]
