import hashlib
import os
import random
import shutil
import tracemalloc
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from pfit_ray import storage
from pfit_ray.config.data import DataConfig, ImageSetConfig
from pfit_ray.constants import FAILED, OK
from pfit_ray.data.sources.item import Item
from pfit_ray.data.sources.listing import list_images
from pfit_ray.rundir import manifest
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.rundir.manifest import (
    find_images,
    ground_truth_shards,
    iterate_manifest,
    iterate_shards,
    read_manifest_shard,
    write_manifest,
)

ITEMS = [
    Item("a", "photos/a.jpg", keys=(1, 3), mask_uri="masks/a.png", size=12, version="etag"),
    Item("b", "photos/b.jpg", keys=()),
    Item("c", "photos/x.tar", offset=512, length=7, size=7),
    Item("d", "photos/d.jpg", reason="unknown_class", message="no class 'dog'"),
    Item("a", "photos/other/a.jpg", keys=(2,)),
]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(str(tmp_path / "run"))


def test_shards_hold_the_images_in_their_order(run: RunDirectory) -> None:
    summary = write_manifest(run, "train", iter(ITEMS), shard_size=2)
    lines = "a\tphotos/a.jpg\nb\tphotos/b.jpg\nc\tphotos/x.tar\nd\tphotos/d.jpg\na\tphotos/other/a.jpg\n"
    digest = hashlib.sha256(lines.encode()).hexdigest()
    counts = {"images": 5, "shards": 3, "shard_size": 2, "bytes": 19, "unknown_sizes": 3, "ground_truth": 1}
    assert summary == {**counts, "digest": digest, "notes": []} == run.read_json("manifest", "train.json")
    first, second, third = (read_manifest_shard(run, "train", shard) for shard in range(3))
    nothing = dict.fromkeys(("offset", "length", "row", "column", "name", "name_column", "reason", "message", "stage"))
    assert first == [
        {**nothing, "image_id": "a", "uri": "photos/a.jpg", "keys": [1, 3], "mask_uri": "masks/a.png", "size": 12,
         "version": "etag", "status": OK},
        {**nothing, "image_id": "b", "uri": "photos/b.jpg", "keys": [], "mask_uri": None, "size": None,
         "version": None, "status": OK},
    ]  # fmt: skip
    assert second[0]["keys"] is None  # to be predicted, unlike [] which means no class
    assert [second[0][name] for name in ("offset", "length", "size")] == [512, 7, 7]
    assert [row["image_id"] for row in second + third] == ["c", "d", "a"]


def test_problems_of_the_source_are_failed_rows(run: RunDirectory) -> None:
    write_manifest(run, "train", iter(ITEMS), shard_size=8)
    rows = list(iterate_manifest(run, "train"))
    assert [row["status"] for row in rows] == [OK, OK, OK, FAILED, FAILED]
    assert [(row["stage"], row["reason"], row["message"]) for row in rows[3:]] == [
        ("source", "unknown_class", "no class 'dog'"),
        ("source", "bad_id", "image id 'a' occurs twice in the source; the first image keeps it"),
    ]


def test_an_image_that_stands_twice_is_found_across_shards(run: RunDirectory) -> None:
    write_manifest(run, "train", iter(ITEMS), shard_size=1)
    assert [row["reason"] for row in iterate_manifest(run, "train")] == [None, None, None, "unknown_class", "bad_id"]


@pytest.mark.parametrize("shards", [2, 3, 4, 5])
def test_parts(run: RunDirectory, monkeypatch: pytest.MonkeyPatch, shards: int) -> None:
    monkeypatch.setattr(manifest, "SHARDS_PER_PART", 2)
    items = [Item(f"i{number}", f"u{number}") for number in range(3 * shards - 1)]
    assert write_manifest(run, "train", iter(items), shard_size=3)["shards"] == shards
    parts = sorted(Path(run.url("manifest", "train")).iterdir())
    assert [part.name for part in parts] == [f"{number:05d}.parquet" for number in range((shards + 1) // 2)]
    assert [row["image_id"] for row in iterate_manifest(run, "train")] == [item.image_id for item in items]
    assert [row["image_id"] for row in read_manifest_shard(run, "train", shards - 1)] == [
        item.image_id for item in items[-2:]
    ]
    assert len(pd.concat(pd.read_parquet(part) for part in parts)) == len(items)


def test_no_images(run: RunDirectory) -> None:
    summary = write_manifest(run, "train", iter([]), shard_size=4)
    assert [summary[name] for name in ("images", "shards", "bytes", "unknown_sizes")] == [0, 0, 0, 0]
    assert list(iterate_manifest(run, "train")) == []


def test_sets_do_not_mix(run: RunDirectory) -> None:
    write_manifest(run, "train", iter(ITEMS[:1]), shard_size=4)
    write_manifest(run, "predict", iter(ITEMS[1:3]), shard_size=4)
    assert [row["image_id"] for row in iterate_manifest(run, "train")] == ["a"]
    assert [row["image_id"] for row in iterate_manifest(run, "predict")] == ["b", "c"]


def test_images_are_listed_as_a_stream(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part is written before the images behind it are listed."""
    monkeypatch.setattr(manifest, "SHARDS_PER_PART", 2)

    def items() -> Iterator[Item]:
        for number in range(7):
            if number == 5:
                assert Path(run.url("manifest", "train", "00000.parquet")).exists()
            yield Item(f"i{number}", f"u{number}")

    write_manifest(run, "train", items(), shard_size=2)


def test_labels_do_not_matter_to_images_that_are_only_segmented(run: RunDirectory) -> None:
    write_manifest(run, "predict", iter(ITEMS), shard_size=8)
    rows = list(iterate_manifest(run, "predict"))
    assert [row["status"] for row in rows] == [OK, OK, OK, OK, FAILED]
    assert (rows[3]["reason"], rows[3]["message"], rows[4]["reason"]) == (None, None, "bad_id")


def test_a_second_listing_gives_the_same_bytes(run: RunDirectory, tmp_path: Path) -> None:
    """The files are made in another order, which a folder's own order shows."""
    root, names = (
        tmp_path / "photos",
        [f"{folder}/{number}.jpg" for folder in ("a", "b c", "d") for number in range(40)],
    )
    data = DataConfig(source="folder", root=str(root), classes=("cat",))
    found = []
    for order in (names, names[::-1]):
        for name in order:
            storage.write_bytes(str(root / name), name.encode())
            os.utime(root / name, ns=(10**18, 10**18))
        summary = write_manifest(run, "train", list_images(data, ImageSetConfig()), shard_size=7)
        found.append((summary, Path(run.url("manifest", "train", "00000.parquet")).read_bytes()))
        shutil.rmtree(root)
    assert found[0] == found[1]


def test_memory_does_not_hold_the_images(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 images whose items take 12 MB together."""
    monkeypatch.setattr(manifest, "SHARDS_PER_PART", 2)
    items = (Item(f"{number:060d}", f"s3://bucket/{number:060d}.jpg", (1, 2)) for number in range(20_000))
    tracemalloc.start()
    assert write_manifest(run, "train", items, shard_size=500)["images"] == 20_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3e6


@pytest.mark.parametrize("place", ["local", "memory"])
def test_a_shard_is_read_without_the_rest_of_its_part(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDirectory(str(tmp_path) if place == "local" else f"memory://{tmp_path.name}")
    monkeypatch.setattr(manifest, "_BLOCK", 512)
    rng = random.Random(0)
    items = [Item(f"i{number}", rng.randbytes(2000).hex()) for number in range(200)]
    write_manifest(run, "train", iter(items), shard_size=20)
    read = []
    read_bytes = storage.read_bytes

    def noted(url: str, start: int, end: int) -> bytes:
        read.append(end - start)
        return read_bytes(url, start, end)

    monkeypatch.setattr(manifest, "open_seekable", partial(manifest.open_seekable, read=noted))
    assert [row["uri"] for row in read_manifest_shard(run, "train", 4)] == [item.uri for item in items[80:100]]
    assert sum(read) < 120_000  # a tenth of the part, whose size is 450 kB, and twice its footer
    found = iterate_shards(run, "train", [9, 0])
    assert [(shard, rows[0]["image_id"]) for shard, rows in found] == [(9, "i180"), (0, "i0")]


def test_a_manifest_that_is_written_anew_is_read_anew(run: RunDirectory) -> None:
    for count in (3, 9, 5):
        write_manifest(run, "train", (Item(f"i{number}", "u" * number) for number in range(count)), shard_size=2)
        assert len(list(iterate_manifest(run, "train"))) == count
    with pytest.raises(FileNotFoundError):
        read_manifest_shard(run, "predict", 0)


@pytest.mark.parametrize("counted", [True, False], ids=["counted", "older manifest"])
def test_shards_with_ground_truth(run: RunDirectory, counted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "SHARDS_PER_PART", 2)
    masks = {3, 11, 12}
    items = [Item(f"i{number}", "u", mask_uri="m" if number in masks else None) for number in range(14)]
    for name, some in (("train", items), ("predict", [Item("a", "u")])):
        summary = write_manifest(run, name, iter(some), shard_size=3)
        if not counted:
            summary.pop("ground_truth")
            run.write_json(summary, "manifest", f"{name}.json")
    assert ground_truth_shards(run, "train").tolist() == [1, 3, 4]
    assert ground_truth_shards(run, "predict").tolist() == []
    assert ground_truth_shards(run, "classifier").tolist() == []


def test_a_manifest_that_has_counted_no_ground_truth_is_not_read(run: RunDirectory) -> None:
    write_manifest(run, "train", iter([Item("a", "u")]), shard_size=1)
    shutil.rmtree(run.url("manifest", "train"))
    assert ground_truth_shards(run, "train").tolist() == []


def test_the_shards_of_some_images(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "SHARDS_PER_PART", 2)
    items = [Item(f"i{number % 12}", "u") for number in range(14)]  # i0 and i1 stand twice, the first counts
    write_manifest(run, "train", iter(items), shard_size=3)
    assert find_images(run, "train", ["i11", "i1", "nobody"]) == {"i11": 3, "i1": 0}
    assert find_images(run, "train", [f"i{number}" for number in range(12)]) == {
        f"i{number}": number // 3 for number in range(12)
    }
    assert find_images(run, "predict", ["i1"]) == {}
