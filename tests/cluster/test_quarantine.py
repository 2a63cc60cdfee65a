"""Images that kill their worker or never end: found, named, and their neighbours unharmed."""

import logging
import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import ray
from ray.exceptions import ActorDiedError
from support.faults import Bomb, Sleeper, expected_labels, go, paint_plan, write_pictures
from support.small_runs import label_files, table

from pfit_ray.cluster import quarantine
from pfit_ray.cluster.quarantine import run_alone
from pfit_ray.config.load import validate
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.tasks.packing import unpack_rows
from pfit_ray.tasks.passes import PassPlan

pytestmark = pytest.mark.timeout(600)

IMAGES = tuple("abcdefghijkl")
SHARDS = [0, 1, 2, 3]


@pytest.fixture(autouse=True)
def _forget_errors(caplog: pytest.LogCaptureFixture) -> None:
    """Records that pytest keeps hold the errors of the lost shards, these the actors, and these their CPUs."""
    caplog.set_level(logging.CRITICAL, "ray.data")


@pytest.fixture
def run(tmp_path: Path, local_ray: None) -> RunDirectory:
    """Twelve pictures in four shards."""
    return write_pictures(tmp_path, IMAGES, shard_size=3)


def run_all(run: RunDirectory, plan: PassPlan, shards: list[int], **faults: float) -> dict[int, tuple[int, int]]:
    return dict(go(run, plan, shards, **faults))


def failures(run: RunDirectory) -> pd.DataFrame:
    return table(Path(run.root), "predict", "failures")


@pytest.mark.slow
def test_images_that_kill_their_worker_or_never_end_are_found_and_their_neighbours_unharmed(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pfit_ray.cluster.pipeline.WINDOW", 3)
    bombs = paint_plan(
        network=(Bomb(("b",), "network_bomb"),),
        finish=(
            Bomb(("f",), "finish_bomb"),
            Sleeper(("k",)),
        ),
    )
    results = run_all(run, bombs, SHARDS, shard_tries=1, image_tries=2, stage_seconds=8)
    assert results == {0: (2, 1), 1: (2, 1), 2: (3, 0), 3: (2, 1)}
    expected = expected_labels(run, IMAGES)
    assert label_files(Path(run.root), "prediction") == {name: expected[name] for name in IMAGES if name not in "bfk"}
    assert failures(run)[["stage", "reason", "attempt"]].to_dict("index") == {
        "b": {"stage": "network_bomb", "reason": "crashed", "attempt": 1},
        "f": {"stage": "finish_bomb", "reason": "crashed", "attempt": 1},
        "k": {"stage": "sleeper", "reason": "stuck", "attempt": 1},
    }

    # What killed them is gone: the failed images alone are taken up again.
    finished = tuple(name for name in IMAGES if name not in "bfk")
    retry = paint_plan(finish=(Bomb(finished, "touches_finished_images"),), retry=True)
    assert run_all(run, retry, [0, 1, 3]) == dict.fromkeys([0, 1, 3], (3, 0))
    assert label_files(Path(run.root), "prediction") == expected
    assert not list(Path(run.folder("predict", "failures")).iterdir())
    assert list(table(Path(run.root), "predict").index) == list(IMAGES)


@pytest.mark.slow
def test_crashes_that_do_not_come_again_cost_nothing(run: RunDirectory, tmp_path: Path) -> None:
    results = run_all(run, paint_plan(finish=(Bomb(("b",), marks=str(tmp_path), times=2),)), [0], shard_tries=1)
    assert results == {0: (3, 0)}
    assert len(list(tmp_path.glob("b-*"))) == 2
    marker = run.read_json("predict", "done", "00000.json")
    assert marker["nodes"] == {"alone": ray.get_runtime_context().get_node_id()}


def test_a_retry_counts_its_attempts(run: RunDirectory) -> None:
    (Path(run.root).parent / "e.png").unlink()
    run_all(run, paint_plan(), [1])
    run_all(run, paint_plan(retry=True), [1])
    assert failures(run)[["reason", "attempt"]].to_dict("index") == {"e": {"reason": "missing", "attempt": 2}}


def test_ctrl_c_ends_what_is_tried_alone(run: RunDirectory) -> None:
    plan = paint_plan(network=(Sleeper(("a",)),))
    config = validate({"output": run.root, "data": {"source": "samples"}, "faults": {"stage_seconds": 900}})
    interrupted = threading.Timer(5, lambda: os.kill(os.getpid(), signal.SIGINT))
    began = time.monotonic()
    interrupted.start()
    with pytest.raises(KeyboardInterrupt):
        list(run_alone(plan, config, run, [0], 1, {"num_cpus": 1}))
    assert time.monotonic() - began < 60
    assert run.finished_numbers("predict") == []


@pytest.mark.parametrize(("lost", "status"), [(0, "failed"), (1, "ok")])
def test_a_lost_node_counts_against_no_image_whatever_ray_says(
    monkeypatch: pytest.MonkeyPatch, lost: int, status: str
) -> None:
    """Two workers die at an image, of which the first `lost` ones with their nodes; the third one lives."""
    nodes, deaths = iter(["one", "two", "three"]), [0]
    calls = {
        "__ray_call__": lambda ask: ("node", next(nodes)),
        "begin": lambda shard, index: ("begin", None),
        "take": lambda: "packed",
    }
    actor = SimpleNamespace(**{name: SimpleNamespace(remote=call) for name, call in calls.items()})

    def get(asked: tuple[str, Any]) -> Any:
        if asked[0] == "node":
            return asked[1]
        deaths[0] += 1
        if deaths[0] <= 2:
            raise ActorDiedError()
        return True

    faults = SimpleNamespace(image_tries=2, stage_seconds=900.0)
    around = SimpleNamespace(get=get, faults=faults, stages=[], worker=lambda: actor)
    monkeypatch.setattr(quarantine, "lives", lambda node: node not in ["one", "two"][:lost])
    monkeypatch.setattr(quarantine, "_SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(quarantine.ray, "kill", lambda actor: None)
    monkeypatch.setattr(quarantine.ray, "wait", lambda refs, **words: None)
    packed = quarantine._Worker(around).row(0, 0, {"image_id": "a", "status": "ok"})
    if status == "ok":
        assert packed == "packed"
    else:
        ((row,), _) = unpack_rows(packed)
        assert (row["status"], row["stage"], row["reason"]) == ("failed", "fetch", "crashed")
