"""Storage against a real S3 protocol: a server on loopback, and a proxy before it that fails now and then."""

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
import ray
from ray import cloudpickle
from s3fs import S3FileSystem
from support.faulty_proxy import Faults, FaultyProxy
from support.s3 import ACCESS_KEY, S3, SECRET_KEY, VARIABLES, proxied, s3_server

from pfit_ray import storage
from pfit_ray.config.storage import StorageConfig
from pfit_ray.errors import RowError, UserError
from pfit_ray.storage import drivers
from pfit_ray.train import fit


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with s3_server() as running:
        yield running


@pytest.fixture(scope="module")
def module_proxy(server: S3) -> Iterator[FaultyProxy]:
    with proxied(server) as proxy:
        yield proxy


@pytest.fixture
def options(module_proxy: FaultyProxy) -> StorageConfig:
    return StorageConfig(endpoint_url=module_proxy.url, backoff_seconds=0.001, timeout_seconds=20.0, retries=6)


@pytest.fixture
def proxy(module_proxy: FaultyProxy, options: StorageConfig, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """The proxy without faults; this process reaches the bucket through it."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(drivers, "_options", options)
    S3FileSystem.clear_instance_cache()  # no connection that an earlier test has left in the middle of a request
    module_proxy.faults = Faults()
    yield module_proxy
    module_proxy.faults = Faults()


@pytest.fixture
def place(proxy: FaultyProxy, request: pytest.FixtureRequest) -> str:
    """A prefix of the test's own, the same in every run: it decides which requests fail."""
    return f"s3://bucket/{crc32(request.node.nodeid.encode()):x}"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_faults_change_nothing(proxy: FaultyProxy, place: str, seed: int) -> None:
    proxy.faults = Faults(seed=seed, busy=0.1, reset=0.1, cut=0.1)
    before = storage.retries()
    files = {f"{place}/{folder}/{number}": bytes([number]) * 500 for folder in "ab" for number in range(6)}
    for url, data in files.items():
        storage.write_bytes(url, data)
    for url, data in files.items():
        assert storage.read_bytes(url) == storage.fetch(url) == data
        assert storage.read_bytes(url, 10, 20) == data[10:20]
        assert storage.exists(url)
    assert not storage.exists(f"{place}/c")
    assert list(storage.list_files(place)) == [(url, 500) for url in sorted(files)]
    storage.remove(f"{place}/a")
    assert [url for url, _ in storage.list_files(place)] == sorted(url for url in files if "/b/" in url)
    storage.remove(place)
    storage.remove(place)
    assert list(storage.list_files(place)) == []
    # aiohttp repeats by itself what was reset on a connection that had been idle.
    assert proxy.faults.done["busy"] + proxy.faults.done["cut"] > 5
    assert storage.retries() - before >= proxy.faults.done["busy"] + proxy.faults.done["cut"]


def test_of_several_who_create_an_object_one_succeeds(proxy: FaultyProxy, place: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        won = list(pool.map(lambda n: storage.create_bytes(f"{place}/lock", b"%d" % n), range(6)))
    assert sum(won) == 1
    assert storage.read_bytes(f"{place}/lock") == b"%d" % won.index(True)


def test_a_store_without_conditional_requests_is_asked_before(
    proxy: FaultyProxy, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, _ = drivers.open_system(place)
    real, refused = system.pipe_file, []

    def pipe_file(path: str, value: bytes, **options: Any) -> Any:
        if options.get("mode") != "create":
            return real(path, value, **options)
        error: Any = OSError("A header you provided implies functionality that is not implemented")
        error.response = {"ResponseMetadata": {"HTTPStatusCode": 501}, "Error": {"Code": "NotImplemented"}}
        refused.append(path)
        raise error

    monkeypatch.setattr(system, "pipe_file", pipe_file)
    assert storage.create_bytes(f"{place}/lock", b"first")
    assert not storage.create_bytes(f"{place}/lock", b"second")
    assert len(refused) == 1
    assert storage.read_bytes(f"{place}/lock") == b"first"


def test_one_request_for_one_object(proxy: FaultyProxy, place: str) -> None:
    storage.write_bytes(f"{place}/x", b"0123")
    storage.fetch(f"{place}/x")
    storage.fetch(f"{place}/x", 1, 3)
    assert [(method, count) for (method, _), count in proxy.faults.seen.items()] == [("PUT", 1), ("GET", 2)]


@pytest.mark.parametrize(
    ("answer", "reason", "retried"),
    [
        ((403, "AccessDenied"), "denied", 0),
        ((404, "NoSuchKey"), "missing", 0),
        ((400, "InvalidRequest"), "io_error", 0),
        ((503, "SlowDown"), "io_error", 6),
        ((500, "InternalError"), "io_error", 6),
        ((429, "TooManyRequests"), "io_error", 6),
    ],
)
def test_answers_become_reasons(
    proxy: FaultyProxy, place: str, answer: tuple[int, str], reason: str, retried: int
) -> None:
    proxy.faults.answers["*/x"] = answer
    before = storage.retries()
    with pytest.raises(RowError, match=f"{place}/x") as caught:
        storage.fetch(f"{place}/x")
    assert caught.value.reason == reason
    assert storage.retries() - before == retried == proxy.faults.done[answer[1]] - 1


def test_a_time_out_has_a_reason_of_its_own(
    proxy: FaultyProxy, place: str, options: StorageConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = options.model_copy(update={"retries": 1, "timeout_seconds": 0.05})
    monkeypatch.setattr(drivers, "_options", quick)
    proxy.faults.slow["*/x"] = 0.3
    with pytest.raises(RowError, match="did not come in time") as caught:
        storage.fetch(f"{place}/x")
    assert caught.value.reason == "timeout"
    assert proxy.faults.done["slow"] == 2


def test_nothing_listens(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = StorageConfig(endpoint_url="http://127.0.0.1:9", backoff_seconds=0, retries=1)
    monkeypatch.setattr(drivers, "_options", nowhere)
    with pytest.raises(UserError, match="does not work, tried 2 times"):
        storage.write_bytes(f"{place}/x", b"")


@pytest.mark.parametrize("answer", [(403, "InvalidAccessKeyId"), (400, "ExpiredToken"), (403, "SignatureDoesNotMatch")])
def test_credentials_that_end_stop_the_run(proxy: FaultyProxy, place: str, answer: tuple[int, str]) -> None:
    proxy.faults.answers["*/x"] = answer
    for action in (storage.fetch, storage.read_bytes, storage.exists, lambda url: storage.write_bytes(url, b"")):
        with pytest.raises(UserError, match="check its permissions and your credentials") as caught:
            action(f"{place}/x")
        assert SECRET_KEY not in str(caught.value)
        assert ACCESS_KEY not in str(caught.value)


def test_absent_credentials(place: str, monkeypatch: pytest.MonkeyPatch, options: StorageConfig) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setattr(drivers, "_options", options.model_copy(update={"region": "eu-west-1"}))
    with pytest.raises(UserError, match="Unable to locate credentials"):
        storage.fetch(f"{place}/x")
    monkeypatch.setattr(drivers, "_options", options.model_copy(update={"profile": "nobody"}))
    with pytest.raises(UserError, match=r"profile \(nobody\) could not be found"):
        storage.fetch(f"{place}/x")


def test_a_profile_of_the_credential_file(
    place: str, options: StorageConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    storage.write_bytes(f"{place}/x", b"here")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    (tmp_path / "credentials").write_text(
        f"[work]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setattr(drivers, "_options", options.model_copy(update={"profile": "work"}))
    assert storage.fetch(f"{place}/x") == b"here"


@pytest.mark.parametrize("answer", [(507, "XMinioStorageFull"), (403, "QuotaExceeded")])
def test_a_full_store(proxy: FaultyProxy, place: str, answer: tuple[int, str]) -> None:
    proxy.faults.answers["*/x"] = answer
    with pytest.raises(UserError, match=f"{place}/x: the storage is full .* make room"):
        storage.write_bytes(f"{place}/x", b"")


def test_what_the_store_keeps_is_told(proxy: FaultyProxy, place: str) -> None:
    for name in ("gone", "kept"):
        storage.write_bytes(f"{place}/{name}", b"")
    proxy.faults.answers["*/kept"] = (403, "AccessDenied")
    with pytest.raises(UserError, match="refuses access"):
        storage.remove(place)
    assert [url for url, _ in storage.list_files(place)] == [f"{place}/kept"]


def test_readers_see_the_old_object_or_the_new_one(proxy: FaultyProxy, place: str) -> None:
    proxy.faults = Faults(busy=0.1, reset=0.1)
    url = f"{place}/x"
    contents = [bytes([value]) * 50_000 for value in (1, 2)]
    storage.write_bytes(url, contents[0])
    seen, done = set(), threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(storage.read_bytes(url))

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(10):
        storage.write_bytes(url, contents[turn % 2])
    done.set()
    reader.join()
    assert seen <= set(contents)


def test_a_multipart_write_survives_faults(proxy: FaultyProxy, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(S3FileSystem._pipe_file, "__defaults__", (6 << 20, None, "overwrite"))
    proxy.faults = Faults(seed=5, busy=0.2, reset=0.3)
    data = os.urandom(13 << 20)
    storage.write_bytes(f"{place}/x", data)
    assert any("partNumber=3" in path for _, path in proxy.faults.seen)
    assert storage.read_bytes(f"{place}/x") == data


def test_an_upload_survives_faults(proxy: FaultyProxy, place: str, tmp_path: Path) -> None:
    proxy.faults = Faults(seed=3, busy=0.3, reset=0.3)
    data = os.urandom(3 << 20)
    (tmp_path / "part").write_bytes(data)
    for number in range(6):
        storage.upload(str(tmp_path / "part"), f"{place}/{number}")
    assert proxy.faults.done["busy"] > 0
    assert {storage.read_bytes(f"{place}/{number}") for number in range(6)} == {data}


def test_threads_share_the_connections(proxy: FaultyProxy, place: str) -> None:
    for number in range(8):
        storage.write_bytes(f"{place}/{number}", bytes([number]))
    urls = [f"{place}/{number % 8}" for number in range(64)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(storage.fetch, urls)) == [bytes([number % 8]) for number in range(64)]


def test_many_calls_leave_no_sockets_behind(proxy: FaultyProxy, place: str) -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    proxy.faults = Faults(busy=0.05, reset=0.05, cut=0.05)
    storage.write_bytes(f"{place}/x", b"1" * 100)
    before = open_files()
    for _ in range(100):
        storage.fetch(f"{place}/x")
    time.sleep(0.2)
    assert open_files() <= before + 5


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_reads_too(proxy: FaultyProxy, place: str) -> None:
    if ray.is_initialized():
        pytest.skip("a process whose threads are Ray's cannot be forked safely")
    storage.write_bytes(f"{place}/x", b"here")
    storage.fetch(f"{place}/x")
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send_bytes(storage.fetch(f"{place}/x")))
    child.start()
    assert receiver.poll(20)
    assert receiver.recv_bytes() == b"here"
    child.join(20)


def test_ray_train_is_given_a_url_and_no_credentials(place: str) -> None:
    storage.write_bytes(f"{place}/a/x", b"here")
    given = fit._storage(f"{place}/a")
    assert given["storage_path"] == place.removeprefix("s3://") + "/a"
    sent = cloudpickle.dumps(given["storage_filesystem"])
    assert SECRET_KEY.encode() not in sent
    with cloudpickle.loads(sent).open_input_file(given["storage_path"] + "/x") as file:
        assert file.read() == b"here"


def test_many_files_are_removed_at_once(place: str) -> None:
    urls = [f"{place}/done/{number:05d} [&].json" for number in range(7)]
    for url in urls:
        storage.write_bytes(url, b"{}")
    storage.remove_all([*urls[:3], f"{place}/nothing.json", *urls[4:]])
    assert [url for url, _ in storage.list_files(f"{place}/done")] == [urls[3]]
    storage.remove_all([])
