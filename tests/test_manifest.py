from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from pfit_ray import manifest
from pfit_ray.layout import RunDirectory
from pfit_ray.manifest import fetch_images, iterate_manifest, read_manifest_shard, write_manifest
from pfit_ray.schema import FAILED, OK
from pfit_ray.sources import Item

ITEMS = [
    Item("a", "photos/a.jpg", keys=(1, 3), mask_uri="masks/a.png"),
    Item("b", "photos/b.jpg", keys=()),
    Item("c", "photos/c.jpg"),
    Item("d", "photos/d.jpg", reason="unknown_class", message="no class 'dog'"),
    Item("a", "photos/other/a.jpg", keys=(2,)),
]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(str(tmp_path / "run"))


def test_shards_hold_the_images_in_their_order(run: RunDirectory) -> None:
    summary = write_manifest(run, "train", iter(ITEMS), shard_size=2)
    assert summary == {"images": 5, "shards": 3, "shard_size": 2} == run.read_json("manifest", "train.json")
    first, second, third = (read_manifest_shard(run, "train", shard) for shard in range(3))
    assert first == [
        {"image_id": "a", "uri": "photos/a.jpg", "keys": [1, 3], "mask_uri": "masks/a.png", "reason": None,
         "message": None, "status": OK, "stage": None},
        {"image_id": "b", "uri": "photos/b.jpg", "keys": [], "mask_uri": None, "reason": None,
         "message": None, "status": OK, "stage": None},
    ]  # fmt: skip
    assert second[0]["keys"] is None  # to be predicted, unlike [] which means no class
    assert [row["image_id"] for row in second + third] == ["c", "d", "a"]


def test_problems_of_the_source_are_failed_rows(run: RunDirectory) -> None:
    write_manifest(run, "train", iter(ITEMS), shard_size=8)
    rows = list(iterate_manifest(run, "train"))
    assert [row["status"] for row in rows] == [OK, OK, OK, FAILED, FAILED]
    assert [(row["stage"], row["reason"], row["message"]) for row in rows[3:]] == [
        ("source", "unknown_class", "no class 'dog'"),
        ("source", "bad_id", "image id 'a' stands twice in the source; the first image keeps it"),
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
    assert write_manifest(run, "train", iter([]), shard_size=4) == {"images": 0, "shards": 0, "shard_size": 4}
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


def test_fetch_images(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"jpeg")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    rows = [{"image_id": name, "uri": str(tmp_path / name), "status": OK} for name in ("a", "empty", "gone", "folder")]
    rows.append({"image_id": "bad", "uri": str(tmp_path / "a"), "status": FAILED, "reason": "bad_id"})
    fetch_images(rows)
    assert rows[0]["encoded"] == b"jpeg"
    assert [row.get("stage") for row in rows] == [None, "fetch", "fetch", "fetch", None]
    assert [row.get("reason") for row in rows] == [None, "empty_file", "missing", "missing", "bad_id"]
    assert rows[2]["message"] == f"{tmp_path}/gone does not exist"
    assert [row["status"] for row in rows] == [OK, FAILED, FAILED, FAILED, FAILED]
    assert all("encoded" not in row for row in rows[1:])
