import hashlib
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest

from pfit_ray import storage
from pfit_ray.errors import UserError
from pfit_ray.storage.cache import CACHE_VARIABLE, KEPT_SECONDS, cache_folder, read_weights

WEIGHTS = b"weights" * 1000
URL = "memory://run/checkpoints/deeplab.safetensors"


@pytest.fixture
def reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A bucket with a recorded weight file and an empty cache; the URLs that are read."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    storage.write_bytes(URL, WEIGHTS)
    record({"sha256": hashlib.sha256(WEIGHTS).hexdigest()})
    read, urls = storage.read_bytes, []

    def counted(url: str, *place: int) -> bytes:
        urls.append(url)
        time.sleep(0.05)
        return read(url, *place)

    monkeypatch.setattr(storage, "read_bytes", counted)
    yield urls
    fsspec.filesystem("memory").rm("/run", recursive=True)


def record(content: dict) -> None:
    storage.write_bytes(URL.replace(".safetensors", ".json"), json.dumps(content).encode())


def test_a_node_fetches_a_file_once(reads: list[str]) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(read_weights, [URL] * 4))
    assert found == [WEIGHTS] * 4
    assert reads.count(URL) == 1


def test_a_damaged_copy_is_fetched_again(reads: list[str]) -> None:
    read_weights(URL)
    (kept,) = cache_folder().glob("*.safetensors")
    kept.write_bytes(WEIGHTS[:-1])
    assert read_weights(URL) == WEIGHTS
    assert reads.count(URL) == 2
    assert kept.read_bytes() == WEIGHTS


def test_other_weights_than_recorded_are_refused(reads: list[str]) -> None:
    storage.write_bytes(URL, b"others")
    with pytest.raises(UserError, match=rf"^{URL}: its sha256 is [0-9a-f]{{64}} and the run recorded .* --redo$"):
        read_weights(URL)
    assert list(cache_folder().glob("*.safetensors")) == []


@pytest.mark.parametrize("digest", ["../../escape", "A" * 64])
def test_a_record_names_no_file_of_its_own(reads: list[str], digest: str) -> None:
    record({"sha256": digest})
    with pytest.raises(UserError, match="is not a sha256"):
        read_weights(URL)


def test_without_a_record_the_file_is_read_where_it_lies(reads: list[str], tmp_path: Path) -> None:
    storage.remove(URL.replace(".safetensors", ".json"))
    assert read_weights(URL) == WEIGHTS
    (tmp_path / "here.safetensors").write_bytes(b"local")
    assert read_weights(str(tmp_path / "here.safetensors")) == b"local"
    assert not cache_folder().exists()


def test_a_file_on_disk_is_checked_where_it_lies(reads: list[str], tmp_path: Path) -> None:
    here = tmp_path / "here.safetensors"
    here.write_bytes(WEIGHTS)
    (tmp_path / "here.json").write_text(json.dumps({"sha256": hashlib.sha256(WEIGHTS).hexdigest()}))
    assert read_weights(str(here)) == WEIGHTS
    here.write_bytes(b"others")
    with pytest.raises(UserError, match="the run recorded"):
        read_weights(str(here))
    assert not cache_folder().exists()


def test_no_such_file(reads: list[str]) -> None:
    with pytest.raises(FileNotFoundError):
        read_weights("memory://run/checkpoints/nothing.safetensors")


def test_what_nobody_uses_goes(reads: list[str]) -> None:
    cache_folder().mkdir(parents=True)
    old, recent = (cache_folder() / f"{name}.safetensors" for name in ("old", "recent"))
    for file, age in ((old, KEPT_SECONDS + 60), (recent, KEPT_SECONDS - 60)):
        file.write_bytes(b"")
        os.utime(file, (time.time() - age,) * 2)
    read_weights(URL)
    assert not old.exists()
    assert recent.exists()
