"""Workers that die are counted by shard, beside the shards, and where Ray has no say."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pfit_ray.cluster import tries as tries_module
from pfit_ray.cluster.tries import LOST, CountedOperator, Tries
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.tasks.packing import MISTAKE


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(str(tmp_path))


@pytest.fixture(autouse=True)
def gone(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Nodes that are lost."""
    lost: set[str] = set()
    monkeypatch.setattr(tries_module, "lives", lambda node: node not in lost)
    return lost


def test_a_shard_is_given_up_when_its_workers_have_died_so_often(run: RunDirectory) -> None:
    tries = Tries(run, "seeds", 2)
    assert tries.begin("fetch", 3, "n")
    tries.end("fetch", 3)
    assert [tries.begin("network", 3, "n") for _ in range(4)] == [True, True, False, False]
    assert tries.begin("network", 4, "n")


def test_what_is_done_again_after_its_end_has_lost_nothing(run: RunDirectory) -> None:
    tries = Tries(run, "seeds", 1)
    for _ in range(3):  # Ray makes lost results again
        assert tries.begin("fetch", 0, "n")
        tries.end("fetch", 0)
    assert not Path(run.url("seeds", "tries")).exists()


def test_a_lost_driver_does_not_forget(run: RunDirectory) -> None:
    first = Tries(run, "seeds", 3)
    for shard in (0, 0, 0, 1):
        assert first.begin("cpu", shard, "n")
    assert [path.name for path in Path(run.url("seeds", "tries")).iterdir()] == ["00000.json"]
    second = Tries(run, "seeds", 3)
    assert [second.begin("cpu", 0, "n"), second.begin("cpu", 0, "n")] == [True, False]
    assert not Tries(run, "seeds", 3).begin("cpu", 0, "n")


def test_a_lost_node_counts_against_no_shard(run: RunDirectory, gone: set[str]) -> None:
    tries = Tries(run, "seeds", 1)
    assert tries.begin("network", 0, "spot")
    gone.add("spot")
    assert tries.begin("network", 0, "other")
    assert not tries.begin("network", 0, "other")


class Local:
    """Tries, as a handle of the actor shows them."""

    def __init__(self, tries: Tries) -> None:
        for name in ("begin", "end"):
            call = getattr(tries, name)
            setattr(self, name, SimpleNamespace(remote=lambda *words, call=call: self.answer(call(*words))))

    @staticmethod
    def answer(value: Any) -> Any:
        return SimpleNamespace(future=lambda: SimpleNamespace(result=lambda: value))


def test_what_breaks_an_operator_is_data_and_other_shards_go_on(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tries_module, "node_id", lambda: "n")

    def operator(packed: dict[str, Any]) -> dict[str, Any]:
        return {"shard": packed["shard"], "ok": 10 // packed["shard"]}

    counted = CountedOperator(operator, "cpu", Local(Tries(run, "predict", 1)))
    assert counted({"shard": 5}) == {"shard": 5, "ok": 2}
    broken = counted({"shard": 0})
    assert broken[LOST].startswith("ZeroDivisionError")
    for passed in (broken, {MISTAKE: "a sentence"}):
        assert counted(passed) is passed
