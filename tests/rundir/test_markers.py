import json
import random
from pathlib import Path

import pytest

from pfit_ray import storage
from pfit_ray.rundir import finished, markers
from pfit_ray.rundir.directory import RunDirectory, ShardFiles
from pfit_ray.rundir.finished import Ledger
from pfit_ray.rundir.markers import Markers, read_marker
from pfit_ray.rundir.published import read_published
from pfit_ray.tasks.write import summary


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (markers, finished):
        monkeypatch.setattr(module, "SHARDS_PER_PART", 4)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(str(tmp_path))


def marker(shard: int, ok: int = 2, reasons: dict[str, int] | None = None) -> dict:
    reasons = reasons or {}
    files = {"rows": [f"{shard:05d}-{ok:012x}.parquet", 1], "labels": [f"{shard:05d}-{ok:012x}.tar", 2]}
    told = {"shard": shard, "ok": ok, "failed": sum(reasons.values()), "reasons": reasons, "files": files}
    return told | {"finished": 0.1 + shard, "stages": {"fetch": {"images": 2, "seconds": 1 / 3}}, "processor": "one"}


def put(run: RunDirectory, *shards: int, **told: object) -> dict[int, dict]:
    written = {shard: marker(shard, **told) for shard in shards}  # type: ignore[arg-type]
    for shard, one in written.items():
        run.write_json(one, "seeds", "done", f"{shard:05d}.json")
    return written


def names(run: RunDirectory) -> list[str]:
    return sorted(path.name for path in Path(run.url("seeds", "done")).iterdir())


def test_whole_parts_are_moved_and_nothing_is_lost(run: RunDirectory) -> None:
    written = put(run, *range(6), 8, 9)
    Ledger(run).compact("seeds")
    assert names(run) == ["00004.json", "00005.json", "00008.json", "00009.json", "part-00000.parquet"]
    assert dict(Markers(run.url("seeds", "done"))) == written == run.finished_shards("seeds")
    assert run.finished_numbers("seeds") == list(written)
    for shard, one in written.items():
        assert read_marker(run.url("seeds", "done"), shard) == one
    assert read_marker(run.url("seeds", "done"), 6) is None
    ledger = Ledger(run)
    assert (ledger.counts("seeds"), ledger.processors("seeds")) == ((16, 0), {"one": 8})


def test_columns_come_by_part_and_in_order(run: RunDirectory) -> None:
    put(run, *range(10))
    Ledger(run).compact("seeds")
    put(run, 1, ok=1, reasons={"skipped": 1})
    tables = list(run.markers("seeds").tables(["shard", "ok", "skipped"]))
    assert [table["shard"].to_pylist() for table in tables] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert tables[0].to_pydict() == {"shard": [0, 1, 2, 3], "ok": [2, 1, 2, 2], "skipped": [0, 1, 0, 0]}


def test_a_marker_that_is_published_again_is_the_one_that_counts(run: RunDirectory) -> None:
    put(run, *range(8))
    Ledger(run).compact("seeds")
    (new,) = put(run, 2, ok=1, reasons={"unreadable": 1}).values()
    for _ in range(2):  # before it is moved, and after
        assert read_marker(run.url("seeds", "done"), 2) == run.finished_shards("seeds")[2] == new
        ledger = Ledger(run)
        assert (ledger.counts("seeds"), ledger.reasons("seeds")) == ((15, 1), {"unreadable": 1})
        assert ledger.shards("seeds").failing().tolist() == [2]
        ledger.compact("seeds")
    assert names(run) == ["part-00000.parquet", "part-00001.parquet"]


def test_an_empty_file_says_that_a_shard_is_to_be_done_again(run: RunDirectory) -> None:
    written = put(run, *range(5))
    Ledger(run).compact("seeds")
    storage.write_bytes(run.marker("seeds", 3), b"")
    assert run.finished_numbers("seeds") == [0, 1, 2, 4]
    assert read_marker(run.url("seeds", "done"), 3) is None
    assert run.finished_shards("seeds") == {shard: written[shard] for shard in (0, 1, 2, 4)}
    ledger = Ledger(run)
    ledger.compact("seeds")
    assert len(ledger.shards("seeds")) == 4
    put(run, 3)
    Ledger(run).compact("seeds")
    assert run.finished_shards("seeds") == written


def test_dropped_shards_are_done_again(run: RunDirectory) -> None:
    put(run, *range(5))
    ledger = Ledger(run)
    ledger.compact("seeds")
    ledger.drop("seeds", [1, 4])
    assert Ledger(run).shards("seeds").numbers().tolist() == [0, 2, 3]
    assert run.finished_numbers("seeds") == [0, 2, 3]


def test_the_driver_moves_what_it_is_told(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    put(run, 1)  # of a run before
    ledger = Ledger(run)
    ledger.compact("seeds")
    read: list[str] = []
    real = storage.read_bytes
    monkeypatch.setattr(storage, "read_bytes", lambda url, *rest: (read.append(url), real(url, *rest))[1])
    for shard in (3, 5, 0, 2):
        (one,) = put(run, shard).values()
        ledger.add("seeds", summary(one))
    assert names(run) == ["00005.json", "part-00000.parquet"]
    assert read == [run.marker("seeds", 1)]  # all others were told
    assert run.finished_shards("seeds") == {shard: marker(shard) for shard in (0, 1, 2, 3, 5)}


def test_any_order_of_publishing_and_moving_ends_the_same(run: RunDirectory) -> None:
    dice = random.Random(0)
    expected, ledger = {}, Ledger(run)
    for step in range(60):
        shard, ok = dice.randrange(14), dice.randrange(1, 5)
        (expected[shard],) = put(run, shard, ok=ok).values()
        ledger.add("seeds", summary(expected[shard]))
        if dice.random() < 0.2:
            ledger = Ledger(run)
            ledger.compact("seeds")
        assert run.finished_shards("seeds") == dict(sorted(expected.items())), step
        assert ledger.counts("seeds") == (sum(one["ok"] for one in expected.values()), 0)


class KilledError(BaseException):
    """In the place of a SIGKILL."""


def kill_at(patch: pytest.MonkeyPatch, boundary: int) -> None:
    made: list[str] = []
    for action in ("write_bytes", "remove"):
        real = getattr(storage, action)

        def act(url: str, *rest: object, real=real) -> None:
            if len(made) >= boundary:
                raise KilledError
            real(url, *rest)
            made.append(url)

        patch.setattr(storage, action, act)
    patch.setattr(storage, "remove_all", lambda urls: [storage.remove(url) for url in urls])


@pytest.mark.parametrize("again", [False, True], ids=["first", "retry"])
def test_killed_between_any_two_writes_of_a_move(
    run: RunDirectory, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for boundary in range(20):
        storage.remove(run.url("seeds"))
        expected = put(run, *range(4))
        if again:
            Ledger(run).compact("seeds")
            expected |= put(run, 1, 2, ok=1)
        with monkeypatch.context() as patch:
            kill_at(patch, boundary)
            try:
                Ledger(run).compact("seeds")
            except KilledError:
                assert run.finished_shards("seeds") == expected
                assert Ledger(run).counts("seeds") == (sum(one["ok"] for one in expected.values()), 0)
            else:
                break
        Ledger(run).compact("seeds")
        assert run.finished_shards("seeds") == expected
        assert names(run) == ["part-00000.parquet"]
    assert boundary == (3 if again else 5)


def test_a_marker_that_is_moved_while_it_is_looked_for_is_found(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = put(run, *range(4))
    listed = Markers(run.url("seeds", "done"))
    Ledger(run).compact("seeds")
    assert dict(listed) == written
    storage.remove(run.url("seeds"))  # as --redo does
    assert dict(listed) == {}


def test_tidy_knows_the_files_of_moved_markers(run: RunDirectory) -> None:
    put(run, *range(5), ok=3)
    for shard in range(5):
        for kind, file in marker(shard, ok=3)["files"].items():
            storage.write_bytes(storage.join(run.folder("seeds", kind), file[0]), b"x")
    stray = storage.join(run.folder("seeds", "rows"), "00002-00000000000f.parquet")
    storage.write_bytes(stray, b"x")
    ledger = Ledger(run)
    assert ledger.tidy("seeds") == []
    assert not storage.exists(stray)
    storage.remove(storage.join(run.folder("seeds", "labels"), f"00001-{3:012x}.tar"))
    assert ledger.tidy("seeds") == []  # it has just looked
    assert Ledger(run).tidy("seeds") == [1]


def test_markers_of_older_versions_are_moved_too(run: RunDirectory) -> None:
    old = {"shard": 0, "ok": 1, "failed": 1, "reasons": {"unreadable": 1}, "finished": 1.0, "stages": {}}
    for shard in range(4):
        run.write_json({**old, "shard": shard}, "seeds", "done", f"{shard:05d}.json")
        for kind, suffix in (("rows", "parquet"), ("labels", "tar"), ("failures", "parquet")):
            storage.write_bytes(storage.join(run.folder("seeds", kind), f"{shard:05d}.{suffix}"), b"x")
    assert Ledger(run).tidy("seeds") == []
    assert names(run) == ["part-00000.parquet"]
    files = run.published("seeds", 2)
    assert files is not None
    assert files.rows.url.endswith("rows/00002.parquet")
    assert json.loads(json.dumps(run.finished_shards("seeds")[2])) == {**old, "shard": 2}


def test_a_settled_part_is_read_once(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    written = put(run, *range(6))
    Ledger(run).compact("seeds")
    folder, asked = run.url("seeds", "done"), list[str]()
    real = storage.read_bytes
    monkeypatch.setattr(storage, "read_bytes", lambda url, *rest: (asked.append(url), real(url, *rest))[1])
    for shard in (0, 3, 1, 5):
        assert read_marker(folder, shard, "this pass") == written[shard]
    assert [url.rpartition("/")[2] for url in asked] == ["part-00000.parquet", "part-00001.parquet", "00005.json"]
    put(run, 3, ok=1)
    assert read_marker(folder, 3, "this pass") == written[3]
    assert read_marker(folder, 3, "the next pass") == written[3]  # the driver moves it before it settles
    assert read_marker(folder, 3) == marker(3, ok=1)


def test_files_that_a_retry_has_replaced_are_found_all_the_same(run: RunDirectory) -> None:
    put(run, *range(4))
    Ledger(run).compact("seeds")
    seen: list[str] = []

    def read(files: ShardFiles) -> str:
        seen.append(files.rows.url)
        if files.rows.url != storage.join(run.folder("seeds", "rows"), f"00002-{1:012x}.parquet"):
            raise FileNotFoundError(files.rows.url)
        return "rows"

    read_published(run, "seeds", 1, lambda files: files, "pass")
    put(run, 2, ok=1)
    assert read_published(run, "seeds", 2, read, "pass") == "rows"
    assert len(seen) == 2
