import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.sentences import facts

from pfit_ray.errors import UserError
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.rundir.review import (
    Marked,
    MarkTable,
    keeps,
    marks_for_training,
    read_marks,
    run_marks,
    used_marks_url,
    write_marks,
)

TIME = datetime(2026, 3, 1, 12, 30, 0, 250_000, UTC)
SOME = {"b": Marked("reject", TIME), "a": Marked("accept", TIME)}


@pytest.fixture(params=["disk", "bucket"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> RunDirectory:
    return RunDirectory(str(tmp_path) if request.param == "disk" else f"memory://{tmp_path.name}")


def test_other_programs_read_the_table(tmp_path: Path) -> None:
    url = RunDirectory(str(tmp_path)).url("review", "marks.parquet")
    assert url == str(tmp_path / "review" / "marks.parquet")
    write_marks(url, SOME)
    table = pd.read_parquet(url)
    assert table["image_id"].tolist() == ["a", "b"]
    assert table["mark"].tolist() == ["accept", "reject"]
    assert table["time"].tolist() == [pd.Timestamp(TIME)] * 2
    assert read_marks(url) == SOME
    before = Path(url).read_bytes()
    write_marks(url, dict(reversed(SOME.items())))
    assert Path(url).read_bytes() == before


def test_marks_come_and_go(run: RunDirectory) -> None:
    table = MarkTable(run)
    assert table.read() == {}
    table.set("a", None)
    assert run_marks(run) == {}
    begun = datetime.now(UTC)
    table.set("a", "accept")
    table.set("b", "reject")
    marks = table.set("a", "needs_work")
    assert marks == table.read() == run_marks(run)
    assert {name: one.mark for name, one in marks.items()} == {"a": "needs_work", "b": "reject"}
    assert all(begun <= one.time <= datetime.now(UTC) for one in marks.values())
    assert list(table.set("a", None)) == ["b"]
    assert table.set("b", None) == run_marks(run) == {}


def test_marks_of_others_stay(run: RunDirectory) -> None:
    one, other = MarkTable(run), MarkTable(run)
    one.set("a", "accept")
    other.set("b", "reject")
    one.set("c", "accept")
    assert sorted(run_marks(run)) == ["a", "b", "c"]
    assert sorted(other.read()) == ["a", "b", "c"]


def test_explorers_that_mark_at_the_same_moment_lose_nothing(run: RunDirectory) -> None:
    begun = threading.Barrier(4)

    def mark(explorer: int) -> None:
        table = MarkTable(run)
        for number in range(10):
            begun.wait()
            table.set(f"{explorer}-{number}", "accept")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(mark, range(4)))
    assert sorted(run_marks(run)) == sorted(f"{explorer}-{number}" for explorer in range(4) for number in range(10))


def test_the_last_word_counts_whatever_the_clocks(run: RunDirectory) -> None:
    ahead = datetime.now(UTC) + timedelta(hours=1)
    write_marks(run.url("review", "marks.parquet"), {"a": Marked("accept", ahead), "b": Marked("accept", ahead)})
    one, other = MarkTable(run), MarkTable(run)
    one.set("a", "reject")
    one.set("b", None)
    assert {name: said.mark for name, said in other.read().items()} == {"a": "reject"}
    other.set("a", None)
    other.set("b", "needs_work")
    assert {name: said.mark for name, said in one.read().items()} == {"b": "needs_work"}


def test_what_is_handed_out_is_a_copy(run: RunDirectory) -> None:
    table = MarkTable(run)
    table.set("a", "accept").clear()
    table.read().clear()
    assert list(table.read()) == ["a"]


def test_the_last_of_several_marks_counts(tmp_path: Path) -> None:
    rows = {"image_id": ["a", "a", "a"], "mark": ["accept", "reject", "needs_work"],
            "time": [TIME, TIME.replace(hour=20), None]}  # fmt: skip
    pd.DataFrame(rows).to_parquet(tmp_path / "m.parquet")
    assert read_marks(str(tmp_path / "m.parquet"))["a"].mark == "reject"


def test_what_is_no_table_of_marks(tmp_path: Path) -> None:
    url = str(tmp_path / "m.parquet")
    Path(url).write_text("nonsense")
    with pytest.raises(
        UserError, match=r"m.parquet is not a table of marks with the columns image_id, mark, time; repair or remove it"
    ):
        read_marks(url)
    pq.write_table(pa.table({"image_id": ["a"]}), url)
    with pytest.raises(UserError, match="is not a table of marks"):
        read_marks(url)
    write_marks(url, {"a": Marked("good", TIME)})  # type: ignore[arg-type]
    with pytest.raises(UserError, match="marks 'a' as 'good'; marks are accept, reject, needs_work"):
        read_marks(url)


@pytest.mark.parametrize(
    ("review", "kept"),
    [
        ("not_rejected", {"accept": True, "needs_work": True, None: True, "reject": False}),
        ("no_complaints", {"accept": True, "needs_work": False, None: True, "reject": False}),
        ("accepted", {"accept": True, "needs_work": False, None: False, "reject": False}),
    ],
)
def test_which_images_a_training_keeps(review, kept) -> None:
    assert {mark: keeps(review, mark and Marked(mark, TIME)) for mark in kept} == kept


def test_a_training_keeps_to_the_marks_it_began_with(run: RunDirectory) -> None:
    with pytest.raises(UserError) as caught:
        marks_for_training(run, "deeplab", "accepted")
    assert facts(caught.value)[:2] == ["deeplab.train.review", "'accepted'"]
    assert str(caught.value).count(run.root) == 2
    write_marks(run.url("review", "marks.parquet"), SOME)
    assert marks_for_training(run, "deeplab", "accepted") == SOME
    write_marks(used_marks_url(run, "deeplab"), {"a": SOME["a"]})
    assert marks_for_training(run, "deeplab", "accepted") == {"a": SOME["a"]}
    assert marks_for_training(run, "affinitynet", "accepted") == SOME
