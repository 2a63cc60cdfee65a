import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.shards import fixed, mark

from pfit_ray import storage
from pfit_ray.constants import FAILED, OK, Row
from pfit_ray.data.sources.item import Item
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.rundir.manifest import write_manifest
from pfit_ray.tasks.base import fail
from pfit_ray.tasks.encode import array_bytes
from pfit_ray.tasks.fetch import FetchOperator, SeedMaps
from pfit_ray.tasks.packing import unpack_rows


@pytest.fixture
def listed(tmp_path: Path) -> RunDirectory:
    """Two shards: images a, b (gone), c (a failed row of the source), and d."""
    for name, data in {"a": b"123", "c": b"1", "d": b"bad"}.items():
        (tmp_path / name).write_bytes(data)
    items = [Item(name, str(tmp_path / name), keys=(1,)) for name in "abcd"]
    items[2] = Item("c", str(tmp_path / "c"), reason="unknown_class", message="no class 'dog'")
    run = RunDirectory(str(tmp_path / "run"))
    write_manifest(run, "train", iter(items), shard_size=3)
    return run


def test_fetch(listed: RunDirectory) -> None:
    packed = FetchOperator(listed, "train", None)({"shard": np.int64(0)})
    assert packed["shard"] == 0
    rows, timings = unpack_rows(packed["rows"])
    fetch = timings["fetch"]
    assert (fetch["images"], fetch["failed"], fetch["bytes"], fetch["retries"]) == (3, 1, 3, 0)
    assert [(row["image_id"], row["status"], row["reason"]) for row in rows] == [
        ("a", OK, None),
        ("b", FAILED, "missing"),
        ("c", FAILED, "unknown_class"),
    ]
    assert [row.get("encoded") for row in rows] == [b"123", None, None]
    assert [row["stage"] for row in rows] == [None, "fetch", "source"]
    (last,), _ = unpack_rows(FetchOperator(listed, "train", None)({"shard": 1})["rows"])
    assert last["image_id"] == "d"


def test_images_that_failed_upstream_are_not_fetched(listed: RunDirectory) -> None:
    def upstream(shard: int, rows: Sequence[Row]) -> None:
        assert shard == 0
        fail(rows[0], "seeds", "upstream", "no seeds")

    rows, _ = unpack_rows(FetchOperator(listed, "train", upstream)({"shard": 0})["rows"])
    assert (rows[0]["reason"], "encoded" in rows[0]) == ("upstream", False)


@pytest.mark.parametrize("column", ["cam", "combined_cam"])
def test_seed_maps(tmp_path: Path, column: str) -> None:
    run = RunDirectory(str(tmp_path))
    cam = np.array([[[0.5]]], dtype=np.float16)
    table = pd.DataFrame({"image_id": ["a"], "keys": [[3]], column: [array_bytes(cam)], "regions_slic": [b"png"]})
    storage.write_bytes(fixed(run, "seeds", "rows", 7), table.to_parquet())
    rows = [
        {"image_id": "a", "status": OK, "keys": None},
        {"image_id": "b", "status": OK, "keys": [1]},
        {"image_id": "c", "status": FAILED, "stage": "source", "reason": "bad_id", "message": "twice"},
    ]
    mark(run, "seeds", 7)
    SeedMaps(run, column, ("slic",))(7, rows)
    assert rows[0]["keys"] == [3]
    assert rows[0]["regions_slic"] == b"png"
    np.testing.assert_array_equal(rows[0]["seed_cam"], cam, strict=True)
    assert (rows[1]["status"], rows[1]["stage"], rows[1]["reason"]) == (FAILED, "seeds", "upstream")
    assert rows[1]["message"] == "pass seeds failed for this image; see its failures table"
    assert rows[2]["reason"] == "bad_id"


def test_what_pass_1_skipped_is_skipped_and_no_failure_of_it(tmp_path: Path) -> None:
    run = RunDirectory(str(tmp_path))
    seeds = [{"image_id": "a", "keys": [3], "cam": array_bytes(np.zeros((1, 2, 2)))}]
    failures = [{"image_id": "b", "reason": "skipped", "message": "no class"},
                {"image_id": "c", "reason": "unreadable", "message": "torn"}]  # fmt: skip
    for url, table in ((fixed(run, "seeds", "rows", 7), seeds), (fixed(run, "seeds", "failures", 7), failures)):
        storage.write_bytes(url, pd.DataFrame(table).to_parquet())
    rows = [{"image_id": name, "status": OK, "keys": None} for name in "abc"]
    mark(run, "seeds", 7, failed=2)
    SeedMaps(run, "cam")(7, rows)
    assert [row.get("reason") for row in rows] == [None, "skipped", "upstream"]
    assert (rows[1]["stage"], rows[1]["message"]) == ("seeds", "no class")


def test_fetching_does_not_import_torch() -> None:
    program = "import sys, pfit_ray.tasks.fetch; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
