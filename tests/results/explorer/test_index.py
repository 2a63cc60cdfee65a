from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support.explorer_run import failed, finish, ok, write_run
from support.shards import current

from pfit_ray import storage
from pfit_ray.data.sources.item import Item
from pfit_ray.errors import UserError
from pfit_ray.results.explorer.index import OK, PENDING, Index, _array
from pfit_ray.results.explorer.query import Query, select
from pfit_ray.rundir import finished, markers
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.rundir.finished import Ledger
from pfit_ray.rundir.manifest import write_manifest

ITEMS = [
    Item("a", "u", (1,)),
    Item("b", "u", (1, 2), mask_uri="m"),
    Item("c", "u", ()),
    Item("d", "u", None, reason="no_label", message="no label"),
    Item("a", "other", (2,)),
    Item("e", "u", None),
    Item("B2", "u", (9,)),
]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """Seeds are finished but for the last shard, in which nothing has begun; the third item has the first one's id."""
    run = write_run(str(tmp_path / "run"), ITEMS)
    finish(run, "seeds", 0, ok("seeds", "a", [1], mask_agreement=0.25), ok("seeds", "b", [1, 2], mask_agreement=None))
    finish(run, "seeds", 1, ok("seeds", "c", [], mask_agreement=0.75), failed("d", "no_label"))
    finish(run, "seeds", 2, failed("a", "bad_id"), failed("e", "unreadable"))
    finish(run, "labels", 0, failed("a", "crashed"), ok("labels", "b", [1, 2], walk_margin=0.125))
    return run


def read(run: RunDirectory, classes: int = 9) -> Index:
    index = Index(run, classes)
    index.refresh()
    return index


def ids(index: Index, marks: list[int] | None = None, **words: str) -> list[str]:
    codes = np.array(marks or [-1] * len(index), np.int8)
    return [index.ids[int(row)].as_py() for row in select(index, codes, Query.parse(words))]


def test_images_stand_in_the_order_of_the_manifest(run: RunDirectory) -> None:
    index = read(run)
    assert ids(index) == ["a", "b", "c", "d", "a", "e", "B2"]
    assert index.row("a") == 0
    assert index.row("nobody") is None
    assert index.rows(["B2", "nobody", "a"]).tolist() == [6, -1, 0]
    assert [index.shard("seeds", row) for row in range(7)] == [0, 0, 1, 1, 2, 2, 3]
    assert index.has_ground_truth.tolist() == [False, True, *[False] * 5]
    assert [index.keys(row) for row in range(7)] == [[1], [1, 2], [], [], [2], [], [9]]


def test_markers_that_are_moved_into_parts(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (markers, finished):
        monkeypatch.setattr(module, "SHARDS_PER_PART", 2)
    before = read(run)
    Ledger(run).compact("seeds")
    assert list(run.markers("seeds").parts) == [0]
    before.refresh()
    for index in (read(run), before):
        assert (ids(index, status="ok"), ids(index, status="failed")) == (["b", "c"], ["a", "d", "a", "e"])
    before.refresh()
    assert before.todo == 0
    finish(run, "seeds", 1, ok("seeds", "c", [], mask_agreement=0.75), ok("seeds", "d", [1], mask_agreement=0.5))
    for _ in range(2):  # from its own file, and from the part
        before.refresh()
        assert ids(before, status="ok") == ["b", "c"]  # d has failed when it was listed
        assert before.status_of("seeds", 3) == OK
        Ledger(run).compact("seeds")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ({"class": "1"}, ["a", "b"]),
        ({"class": "2"}, ["b", "a"]),
        ({"class": "9"}, ["B2"]),
        ({"class": "0"}, ["c"]),
        ({"class": "200"}, []),
        ({"status": "ok"}, ["b", "c"]),
        ({"status": "failed"}, ["a", "d", "a", "e"]),
        ({"status": "unfinished"}, ["B2"]),
        ({"reason": "crashed"}, ["a"]),
        ({"reason": "bad_id"}, ["a"]),
        ({"reason": "no such reason"}, []),
        ({"text": "b"}, ["b", "B2"]),
        ({"text": "[b]"}, []),
        ({"mark": "reject"}, ["b"]),
        ({"mark": "accept"}, ["a"]),
        ({"mark": "none"}, ["c", "d", "a", "e", "B2"]),
        ({"score": "seeds.mask_agreement", "low": "0.5"}, ["c"]),
        ({"score": "seeds.mask_agreement", "low": "0.25", "high": "0.5"}, ["a"]),
        ({"class": "1", "status": "ok"}, ["b"]),
        ({"sort": "id"}, ["B2", "a", "a", "b", "c", "d", "e"]),
        ({"sort": "listed", "descending": "1"}, ["B2", "e", "a", "d", "c", "b", "a"]),
        ({"sort": "seeds.mask_agreement"}, ["a", "c", "b", "d", "a", "e", "B2"]),
        ({"sort": "seeds.mask_agreement", "descending": "1"}, ["c", "a", "b", "d", "a", "e", "B2"]),
        ({"sort": "labels.walk_margin"}, ["b", "a", "c", "d", "a", "e", "B2"]),
        ({"class": "x", "status": "good", "sort": "no", "low": "nan"}, ["a", "b", "c", "d", "a", "e", "B2"]),
    ],
)  # fmt: skip
def test_filters_and_orders(run: RunDirectory, words: dict[str, str], found: list[str]) -> None:
    assert ids(read(run), marks=[0, 1, -1, -1, -1, -1, -1], **words) == found


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"class": "3", "status": "ok", "text": "a b&c", "low": "0.5", "descending": "1", "sort": "id"},
        {"class": "0"},
    ],
)
def test_a_query_becomes_the_words_it_was_made_of(words: dict[str, str]) -> None:
    assert Query.parse(words).words() == words
    assert Query.parse({**words, "page": "3"}) == Query.parse(words)


@pytest.mark.parametrize("value", ["0.123456789", "0.30000000000000004", "1e-09", "0", "1", "16777217"])
def test_a_filter_is_not_rounded(value: str) -> None:
    query = Query.parse({"score": "margin", "low": value})
    assert query.low == float(value)
    assert Query.parse(query.words()) == query
    assert query.words()["low"] == value


def test_what_failed_first_counts(run: RunDirectory) -> None:
    finish(run, "labels", 2, failed("e", "upstream"))
    index = read(run)
    codes = index.reason_codes()
    assert [index.reasons[code] if code >= 0 else None for code in codes] == [
        "crashed", None, None, "no_label", "bad_id", "unreadable", None,
    ]  # fmt: skip


def test_what_is_predicted_counts_where_no_label_is_known(run: RunDirectory) -> None:
    finish(run, "predict", 2, failed("a", "bad_id"), ok("predict", "e", [3]))
    finish(run, "predict", 0, ok("predict", "a", [5]), ok("predict", "b", [5]))
    index = read(run)
    assert [index.keys(row) for row in (0, 1, 5)] == [[1], [1, 2], [3]]


def test_new_and_changed_shards_are_read_and_no_others(run: RunDirectory) -> None:
    index = read(run)
    version = index.version
    index.refresh()
    assert (index.todo, index.version) == (0, version)
    finish(run, "seeds", 3, ok("seeds", "B2", [9]))
    finish(run, "labels", 0, ok("labels", "a", [1]), ok("labels", "b", [1, 2], walk_margin=0.5))
    index.refresh()
    assert (index.todo, index.version) == (2, version + 2)
    assert ids(index, status="ok") == ["a", "b", "c", "B2"]
    assert index.scores["labels.walk_margin"][:2].tolist() == [0.5, 0.5]


def test_a_damaged_shard_is_told_and_leaves_the_others(run: RunDirectory) -> None:
    storage.write_bytes(current(run, "seeds", "rows", 0), b"nonsense")
    index = read(run)
    assert list(index.problems) == [("seeds", 0)]
    assert "pass seeds: shard 0 is finished" in index.problems["seeds", 0]
    assert [index.status_of("seeds", row) for row in (0, 2)] == [PENDING, OK]


def test_images_of_two_sets(tmp_path: Path) -> None:
    run = RunDirectory(str(tmp_path / "run"))
    write_manifest(run, "train", iter([Item(name, "u", (1,)) for name in "abc"]), shard_size=2)
    write_manifest(run, "predict", iter([Item(name, "u") for name in "xcy"]), shard_size=2)
    finish(run, "predict", 0, ok("predict", "x", [2]), ok("predict", "c", [2]))
    index = read(run)
    assert ids(index) == ["a", "b", "c", "x", "y"]
    assert [index.shard("seeds", row) for row in range(5)] == [0, 0, 1, None, None]
    assert [index.shard("predict", row) for row in range(5)] == [None, None, 0, 0, 1]
    assert ids(index, status="ok") == ["c", "x"]
    assert ids(index, **{"class": "2"}) == ["x"]


def test_a_run_in_a_bucket(tmp_path: Path) -> None:
    run = write_run("memory://explorer-index/run", ITEMS)
    finish(run, "seeds", 0, ok("seeds", "a", [1]), failed("b", "unreadable"))
    assert ids(read(run), status="failed") == ["b", "d", "a"]


def test_a_run_that_has_not_listed_its_images(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has listed no images yet; run it first"):
        Index(RunDirectory(str(tmp_path)), 1)


def test_ids_may_be_more_than_two_gigabytes_together(run: RunDirectory) -> None:
    assert read(run).ids.type == pa.large_string()
    column = pa.chunked_array([["a"], ["b"]])
    assert _array(column).equals(pa.array(["a", "b"], pa.large_string()))
    assert _array(pa.chunked_array([[[1], []], [[2, 3]]])).to_pylist() == [[1], [], [2, 3]]
