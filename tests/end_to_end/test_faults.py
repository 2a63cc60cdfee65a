"""Workers, disks and nodes that are lost at random points: nothing is lost, nothing is doubled."""

import logging
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import ray
from conftest import start_local_ray
from ray.cluster_utils import Cluster
from support.faults import Bomb, DiesWriting, FullDisk, Waits, expected_labels, go, paint_plan, write_pictures
from support.processes import driver_of
from support.small_runs import label_files, table

from pfit_ray.cluster.pipeline import run_pass
from pfit_ray.cluster.placement import place
from pfit_ray.cluster.resources import Cluster as Nodes
from pfit_ray.cluster.resources import NodeKind
from pfit_ray.config.load import validate
from pfit_ray.errors import UserError
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.storage.listing import PARTIAL_SUFFIX

pytestmark = pytest.mark.timeout(900)

IMAGES = tuple(f"image_{number:02d}" for number in range(24))
SHARDS = list(range(8))
SEEDS = range(int(os.environ.get("PFIT_FAULT_SEEDS", "1")))
"""Of the random moments; docs/reliability.md says how many have been tried."""
STORE = {"object_store_memory": 150 << 20}


def random_moments(test: Callable[..., None]) -> Callable[..., None]:
    """Marks of a test with a `seed`."""
    return pytest.mark.slow(pytest.mark.random_moments(pytest.mark.parametrize("seed", SEEDS)(test)))


@pytest.fixture(autouse=True)
def _forget_errors(caplog: pytest.LogCaptureFixture) -> None:
    """Records that pytest keeps hold the errors of the lost shards, these the actors, and these their CPUs."""
    caplog.set_level(logging.CRITICAL, "ray.data")


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """24 pictures in 8 shards."""
    return write_pictures(tmp_path, IMAGES, shard_size=3)


DRIVE = """
from support.faults import Slow, go, paint_plan
from pfit_ray.config.resources import ResourcesConfig
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.cluster.session import ray_session

run = RunDirectory({root!r})
left = sorted({{*range(8)}} - {{*run.finished_numbers("predict")}})
if left:
    with ray_session({address!r}, ResourcesConfig(), verbose=False):
        dict(go(run, paint_plan(finish=(Slow(0.1),)), left))
"""
"""Does the shards that are not finished, in a cluster that outlives it."""


def assert_whole(run: RunDirectory) -> None:
    """Every image is there once, with the label that it gets in an undisturbed run."""
    assert label_files(Path(run.root), "prediction") == expected_labels(run, IMAGES)
    assert list(table(Path(run.root), "predict").index) == list(IMAGES)
    assert not (Path(run.root) / "predict" / "failures").exists()


@random_moments
def test_actors_and_tasks_that_die_at_random_points(
    local_ray: None, run: RunDirectory, tmp_path: Path, seed: int
) -> None:
    draw = random.Random(seed)
    actors, tasks, late = (tuple(draw.sample(IMAGES, 2)) for _ in range(3))
    marks = [tmp_path / name for name in ("actors", "tasks", "late")]
    for folder in marks:
        folder.mkdir()
    plan = paint_plan(
        network=(Bomb(actors, "actor_bomb", str(marks[0])),),
        finish=(Bomb(tasks, "task_bomb", str(marks[1])),),
        last=(Bomb(late, "late_bomb", str(marks[2])),),
    )
    assert dict(go(run, plan, SHARDS)) == dict.fromkeys(SHARDS, (3, 0))
    assert [len(list(folder.iterdir())) for folder in marks] == [2, 2, 2]
    assert_whole(run)


def published(run: RunDirectory) -> dict[str, bytes]:
    """Everything that the pass has left, but the markers, which tell times and nodes."""
    root = Path(run.root) / "predict"
    files = (path for path in root.rglob("*") if path.is_file() and path.parent.name != "done")
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


@pytest.mark.slow
def test_workers_that_die_inside_a_write(local_ray: None, run: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "marks").mkdir()
    deaths = {IMAGES[3 * shard + 2]: shard for shard in range(4)}  # the last image of its shard, and where it dies
    dict(go(run, paint_plan(), SHARDS))
    undisturbed = published(run)
    shutil.rmtree(run.url("predict"))
    assert dict(go(run, paint_plan(last=(DiesWriting(deaths, str(tmp_path / "marks")),)), SHARDS)) == dict.fromkeys(
        SHARDS, (3, 0)
    )
    assert len(list((tmp_path / "marks").iterdir())) == 4
    assert_whole(run)
    halves = {name for name in published(run) if name.endswith(PARTIAL_SUFFIX)}  # what no listing shows
    assert sorted(name.partition("/")[0] for name in halves) == ["predictions", "rows"]
    assert {name: data for name, data in published(run).items() if name not in halves} == undisturbed


@pytest.mark.slow
def test_a_disk_that_fills(local_ray: None, run: RunDirectory, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.touch()
    plan = paint_plan(finish=(FullDisk(str(full)),))
    with pytest.raises(UserError, match="storage is full"):
        dict(go(run, plan, SHARDS))
    assert run.finished_shards("predict") == {}
    full.unlink()
    dict(go(run, plan, SHARDS))
    assert_whole(run)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head with two CPUs, which lives until the last test; nodes come and go."""
    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False, **STORE})
    yield started
    started.shutdown()


@pytest.fixture
def joined(cluster: Cluster) -> Iterator[None]:
    """This process is in that cluster instead of the session's Ray."""
    before = ray.is_initialized()
    if before:
        ray.shutdown()
    ray.init(address=cluster.address, log_to_driver=False)
    yield
    ray.shutdown()
    if before:
        start_local_ray()


@random_moments
@pytest.mark.xdist_group("cluster")
@pytest.mark.multinode
def test_nodes_that_come_and_are_lost(cluster: Cluster, joined: None, tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    run = write_pictures(tmp_path, IMAGES, shard_size=1)
    shards = list(range(len(IMAGES)))
    config = validate({"output": run.root, "data": {"source": "samples"}})
    placement = place(config, Nodes((NodeKind(cpus=2, alive=1, more=2),)))
    assert (placement.min_network_workers, placement.network_workers) == (2, 6)
    seen, lost = tmp_path / "seen", tmp_path / "lost"
    seen.mkdir()
    waits = Waits(str(seen), 2, str(lost), first=IMAGES[:4], late=IMAGES[16:])  # Ray Data hands on a row with the next
    more, results, loss = [], [], 0
    for result in run_pass(paint_plan(finish=(waits,)), config, run, shards, placement):
        results.append(result["shard"])
        if len(results) == 1:
            more = [cluster.add_node(num_cpus=2, **STORE) for _ in range(2)]
        elif not loss and len(list(seen.iterdir())) > 1:
            loss = len(results) + draw.randint(0, 2)
        if more and 0 < loss <= len(results):
            more.sort(key=lambda node: (seen / node.node_id).exists())  # last, and lost first: one that is in use
            time.sleep(draw.uniform(0, 0.5))
            cluster.remove_node(more.pop(), allow_graceful=False)
            loss += 1 + draw.randint(0, 1)
            if not more:
                lost.touch()
    assert sorted(results) == shards
    assert lost.exists()
    assert len(list(seen.iterdir())) > 1
    assert_whole(run)


@random_moments
@pytest.mark.xdist_group("cluster")
@pytest.mark.multinode
def test_drivers_that_end_at_random_points(cluster: Cluster, run: RunDirectory, tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    ended = []
    for number in range(20):
        # As many shards are finished when it ends; the first one may end before any is.
        more = len(run.finished_numbers("predict")) + draw.randint(3 if number else 0, 5)
        sent = None
        with driver_of(DRIVE.format(root=run.root, address=cluster.address), tmp_path / f"{number}.log") as process:
            while process.poll() is None and len(run.finished_numbers("predict")) < min(more, len(SHARDS)):
                time.sleep(0.01)
            if more < len(SHARDS):
                with suppress(subprocess.TimeoutExpired):
                    process.wait(draw.uniform(0, 4 if more == 0 else 0.5))
                if process.poll() is None:
                    sent = draw.choice([signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
                    process.send_signal(sent)
                    ended.append(sent)
            code = process.wait(300)
        assert code == 0 or sent, (tmp_path / f"{number}.log").read_text()
        if code == 0 and len(run.finished_numbers("predict")) == len(SHARDS):
            break
    assert ended
    assert_whole(run)
