from pathlib import Path
from unittest import mock

import pytest

from pfit_ray import storage
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.rundir.finished import Ledger, ShardCount


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(str(tmp_path))
    put(run, 0, ok=3, failed=0, reasons={})
    put(run, 2, ok=1, failed=2, reasons={"skipped": 1, "bad_file": 1})
    return run


def put(run: RunDirectory, shard: int, **marker: object) -> None:
    run.write_json({"shard": shard, **marker}, "seeds", "done", f"{shard:05d}.json")


def test_counts_of_finished_shards(run: RunDirectory) -> None:
    ledger = Ledger(run)
    assert ledger.shards("seeds") == {0: ShardCount(3, 0, 0), 2: ShardCount(1, 2, 1)}
    assert ledger.counts("seeds") == (4, 2)
    assert ledger.faulty("seeds") == 1
    assert ledger.reasons("seeds") == {"skipped": 1, "bad_file": 1}
    assert ledger.counts("labels") == (0, 0)


def test_markers_are_read_once(run: RunDirectory) -> None:
    ledger = Ledger(run)
    with mock.patch("pfit_ray.storage.read_bytes", wraps=storage.read_bytes) as read:
        ledger.counts("seeds")
        ledger.faulty("seeds")
        ledger.shards("seeds")
    assert read.call_count == 2


def test_published_shards_are_added_or_replace_what_they_were(run: RunDirectory) -> None:
    ledger = Ledger(run)
    ledger.add("seeds", {"shard": 1, "ok": 2, "failed": 1, "skipped": 0})
    assert (ledger.counts("seeds"), ledger.faulty("seeds")) == ((6, 3), 2)
    ledger.add("seeds", {"shard": 2, "ok": 3, "failed": 0, "skipped": 0})
    assert (ledger.counts("seeds"), ledger.faulty("seeds")) == ((8, 1), 1)


def test_storage_is_asked_again_on_demand(run: RunDirectory) -> None:
    ledger = Ledger(run)
    ledger.add("seeds", {"shard": 1, "ok": 2, "failed": 1, "skipped": 0})
    put(run, 3, ok=5, failed=0, reasons={})
    ledger.read_again("seeds")
    assert ledger.counts("seeds") == (9, 2)
    assert 1 not in ledger.shards("seeds")


def test_a_cleared_ledger_asks_storage_again(run: RunDirectory) -> None:
    ledger = Ledger(run)
    assert ledger.counts("seeds") == (4, 2)
    put(run, 3, ok=5, failed=0, reasons={})
    ledger.clear()
    assert ledger.counts("seeds") == (9, 2)


def test_processors_that_shards_were_made_by(run: RunDirectory) -> None:
    assert Ledger(run).processors("seeds") == {}
    for shard, kind in ((3, "one"), (4, "two"), (5, "two")):
        put(run, shard, ok=1, failed=0, reasons={}, processor=kind)
    assert Ledger(run).processors("seeds") == {"two": 2, "one": 1}
