import json
import time
from datetime import datetime
from pathlib import Path

import pytest

from pfit_ray import storage
from pfit_ray.results.status import describe_status
from pfit_ray.rundir.directory import RunDirectory


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(str(tmp_path))


def mark(run: RunDirectory, shard: int, ok: int, reasons: dict[str, int], finished: float, seconds: float) -> None:
    failed = sum(reasons.values())
    stages = {"decode": {"images": ok + failed, "seconds": seconds, "cpu_seconds": 0.0}}
    marker = {"ok": ok, "failed": failed, "reasons": reasons, "finished": finished, "stages": stages}
    run.write_json(marker, "seeds", "done", f"{shard:05d}.json")


def test_a_run_that_has_not_begun(run: RunDirectory) -> None:
    assert list(describe_status(run)) == [
        "classifier: not there yet",
        "affinitynet: not there yet",
        "deeplab: not there yet",
        "pass seeds: not started",
        "pass labels: not started",
        "pass predict: not started",
    ]


def test_a_run_in_the_middle(run: RunDirectory) -> None:
    storage.write_bytes(run.weights("classifier"), b"x")
    run.write_json({"images": 10, "shards": 4, "shard_size": 3}, "manifest", "train.json")
    mark(run, 0, 3, {}, finished=100.0, seconds=1.5)
    mark(run, 2, 0, {"unreadable": 2, "missing": 1}, finished=106.0, seconds=1.5)
    mark(run, 1, 2, {"missing": 2}, finished=103.5, seconds=2.0)
    last = datetime.fromtimestamp(106.0).isoformat(" ", "seconds")
    assert list(describe_status(run)) == [
        "classifier: ready",
        "affinitynet: not there yet",
        "deeplab: not there yet",
        f"pass seeds: 10 of 10 images (5 ok, 5 failed), 3 of 4 shards, 1.17 images/s, last at {last}",
        "  failed, missing: 3",
        "  failed, unreadable: 2",
        "  decode                  0.500 s/image, 0.000 CPU s/image over 10 images",
        "pass labels: 0 of 10 images (0 ok, 0 failed), 0 of 4 shards",
        "pass predict: not started",
    ]


def test_repeated_requests(run: RunDirectory) -> None:
    run.write_json({"images": 10, "shards": 4}, "manifest", "train.json")
    for shard in (0, 1):
        stages = {
            "fetch": {"images": 2, "seconds": 0.0, "cpu_seconds": 0.0, "retries": 3},
            "write": {"images": 2, "seconds": 0.0, "cpu_seconds": 0.0, "retries": shard},
            "cam": {"images": 2, "seconds": 0.0, "cpu_seconds": 0.0},
        }
        marker = {"ok": 2, "failed": 0, "reasons": {}, "finished": 100.0, "stages": stages}
        run.write_json(marker, "seeds", "done", f"{shard:05d}.json")
    assert "  storage requests that had to be repeated: 7" in list(describe_status(run))


def test_bytes_and_failures_of_a_stage(run: RunDirectory) -> None:
    run.write_json({"images": 4, "shards": 2}, "manifest", "train.json")
    for shard in (0, 1):
        stages = {"fetch": {"images": 2, "failed": shard, "seconds": 1.0, "cpu_seconds": 0.5, "bytes": 1_250_000}}
        marker = {"ok": 2, "failed": 0, "reasons": {}, "finished": 100.0, "stages": stages}
        run.write_json(marker, "seeds", "done", f"{shard:05d}.json")
    line = "  fetch                   0.500 s/image, 0.250 CPU s/image over 4 images, 2.5 MB, 1 failed"
    assert line in list(describe_status(run))


def test_the_time_that_is_left(run: RunDirectory) -> None:
    run.write_json({"images": 1000, "shards": 250}, "manifest", "train.json")
    for shard in range(4):  # the first one before a night's pause
        mark(run, shard, 4, {}, finished=50_000.0 + 20 * shard if shard else 0.0, seconds=1.0)
    line = list(describe_status(run))[3]
    assert "16 of 1000 images (16 ok, 0 failed), 4 of 250 shards, 0.20 images/s, about 82 min left, last at " in line


def test_what_it_does_now_and_how_far_a_training_is(run: RunDirectory) -> None:
    line = "affinitynet: epoch 2, step 30 of 40, loss 0.5, 4.0 images/s, about 20 s left, 90 s so far"
    state = {"step": "affinitynet", "line": line, "use": "2 of 2 CPUs in use", "at": time.time() - 7}
    run.write_json(state, "progress.json")
    record = {"epoch": 2, "step": 30, "max_step": 40, "loss": 0.5, "images": 240, "seconds": 60.0}
    storage.write_bytes(run.url("train", "affinitynet", "metrics.jsonl"), json.dumps(record).encode())
    lines = list(describe_status(run))
    assert lines[0] in {f"working ({age} s ago): {line}, 2 of 2 CPUs in use" for age in range(7, 60)}
    assert lines[2] == "affinitynet: training, epoch 2, step 30 of 40, loss 0.5, 4.0 images/s, about 20 s left"


def test_a_run_that_was_killed(run: RunDirectory) -> None:
    state = {"step": "manifest train", "line": "manifest train: 900 images listed, 20.00 images/s", "use": ""}
    run.write_json({**state, "at": time.time() - 7300}, "progress.json")
    assert next(describe_status(run)) == (
        "silent for 2 h: the run was killed, or cannot reach its storage; the same command continues. Last: "
        "manifest train: 900 images listed, 20.00 images/s"
    )


def test_one_marker_has_no_rate(run: RunDirectory) -> None:
    run.write_json({"images": 10, "shards": 4}, "manifest", "train.json")
    mark(run, 0, 3, {}, finished=100.0, seconds=0.0)
    assert list(describe_status(run))[3] == "pass seeds: 3 of 10 images (3 ok, 0 failed), 1 of 4 shards"
