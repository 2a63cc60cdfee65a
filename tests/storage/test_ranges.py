import io
from pathlib import Path

import pyarrow as pa
import pytest

from pfit_ray import storage
from pfit_ray.errors import RowError, UserError
from pfit_ray.storage.ranges import open_for_rows, open_seekable

DATA = bytes(range(200)) * 5


@pytest.fixture(params=["local", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    url = str(tmp_path / "x") if request.param == "local" else f"memory://{tmp_path.name}/x"
    storage.write_bytes(url, DATA)
    return url


def test_reads_what_a_file_reads(url: str) -> None:
    with open_seekable(url, block=64) as file:
        assert file.read(10) == DATA[:10]
        assert file.tell() == 10
        file.seek(-5, io.SEEK_END)
        assert file.read() == DATA[-5:]
        assert file.read() == b""
        file.seek(500)
        file.seek(3, io.SEEK_CUR)
        assert file.read(300) == DATA[503:803]
        file.seek(5000)
        assert file.read(1) == b""


def test_reads_in_blocks_and_passes_over_the_rest(tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/x"
    storage.write_bytes(url, DATA)
    read = []

    def noted(url: str, start: int, end: int) -> bytes:
        read.append((start, end))
        return storage.read_bytes(url, start, end)

    with open_seekable(url, len(DATA), block=100, read=noted) as file:
        file.read(3)
        file.read(3)
        file.seek(700)
        file.read(3)
        file.seek(950)
        file.read()
    assert read == [(0, 100), (700, 800), (950, 1000)]


def test_missing(url: str) -> None:
    with pytest.raises(FileNotFoundError):
        open_seekable(url + "y")
    with pytest.raises(RowError) as caught, open_for_rows(url + "y"):
        pass
    assert (caught.value.reason, caught.value.message) == ("missing", f"{url}y does not exist")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(13, "no"), "denied"),
        (OSError("Couldn't deserialize thrift"), "bad_file"),
        (pa.ArrowInvalid("no magic bytes"), "bad_file"),
        (OSError(5, "Input/output error"), "io_error"),
        (RowError("timeout", "late"), "timeout"),
    ],
)
def test_what_goes_wrong_is_an_error_of_the_rows(url: str, error: Exception, reason: str) -> None:
    with pytest.raises(RowError) as caught, open_for_rows(url):
        raise error
    assert caught.value.reason == reason


def test_a_refused_listing_is_an_error_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(url: str, threads: int) -> None:
        raise UserError("the storage refuses access") from PermissionError(13, "no")

    def not_installed(url: str, threads: int) -> None:
        raise UserError("the driver is not installed") from ImportError("s3fs")

    monkeypatch.setattr(storage, "list_entries", refused)
    with pytest.raises(RowError) as caught, open_for_rows("memory://x"):
        pass
    assert caught.value.reason == "denied"
    monkeypatch.setattr(storage, "list_entries", not_installed)
    with pytest.raises(UserError, match="not installed"), open_for_rows("memory://x"):
        pass
