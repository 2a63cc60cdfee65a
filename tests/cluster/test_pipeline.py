import json
import shutil
from pathlib import Path

import pytest
from conftest import SmallRun
from support.faults import DiesAtStart, Heavy, go, paint_plan, write_pictures
from support.shards import current

from pfit_ray.cluster import pipeline
from pfit_ray.cluster.pipeline import run_pass
from pfit_ray.cluster.placement import Placement, place
from pfit_ray.cluster.resources import Cluster
from pfit_ray.config import RunConfig, load_config
from pfit_ray.config.load import validate
from pfit_ray.errors import UserError
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.tasks.passes import plan_pass


def two_cpus(config: RunConfig) -> Placement:
    return place(config, Cluster.of_one_node(2))


@pytest.fixture
def seeded(small_run: SmallRun, tmp_path: Path) -> RunDirectory:
    """The small run as it was before its second pass."""
    shutil.copytree(small_run.folder, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "labels")
    return RunDirectory(str(tmp_path / "run"))


@pytest.mark.timeout(900)
def test_a_pass_over_some_shards_in_two_windows(
    small_run: SmallRun, seeded: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "WINDOW", 1)
    settings = load_config(seeded.url("config.yaml"))
    results = run_pass(plan_pass("labels", settings, seeded), settings, seeded, [1, 4], two_cpus(settings))
    found = sorted(results, key=lambda result: result["shard"])
    for result in found:
        assert {"fetch", "write"} <= set(result.pop("stages"))
        assert json.loads(result.pop("marker")) == seeded.finished_shards("labels")[result["shard"]]
    assert found == [
        {"shard": 1, "ok": 1, "failed": 1, "skipped": 0, "reasons": {"upstream": 1}},
        {"shard": 4, "ok": 0, "failed": 1, "skipped": 0, "reasons": {"no_label": 1}},
    ]
    assert list(seeded.finished_shards("labels")) == [1, 4]
    for shard in (1, 4):
        tar = Path(current(seeded, "labels", "labels", shard))
        assert tar.read_bytes() == (small_run.folder / tar.relative_to(seeded.root)).read_bytes()
        marker = json.loads(Path(seeded.marker("labels", shard)).read_text())
        assert marker["reasons"] == {1: {"upstream": 1}, 4: {"no_label": 1}}[shard]


@pytest.mark.timeout(900)
def test_a_mistake_that_a_worker_finds_arrives_as_one_sentence(seeded: RunDirectory) -> None:
    settings = load_config(seeded.url("config.yaml"))
    Path(seeded.weights("affinitynet")).write_bytes(b"damaged")
    with pytest.raises(UserError) as caught:
        list(run_pass(plan_pass("labels", settings, seeded), settings, seeded, [0, 1], two_cpus(settings)))
    assert str(caught.value).startswith(f"{seeded.weights('affinitynet')}: its sha256 is ")
    assert seeded.finished_shards("labels") == {}


@pytest.mark.timeout(900)
def test_fewer_shards_than_workers_are_no_matter_of_warnings(local_ray: None, tmp_path: Path) -> None:
    run = write_pictures(tmp_path, ("one", "two"), shard_size=2)
    workers = {"cpus": 0.5, "workers": 2}
    resources = {"fuse": False, "fetch": {"workers": 2}, "network": workers, "cpu": workers}
    config = validate({"output": run.root, "data": {"source": "samples"}, "resources": resources})
    (result,) = run_pass(paint_plan(), config, run, [0], two_cpus(config))
    assert result["ok"] == 2


@pytest.mark.timeout(900)
def test_workers_load_once_in_a_pass_and_the_next_pass_finds_them(local_ray: None, tmp_path: Path) -> None:
    images = tuple(f"image{number}" for number in range(8))
    run = write_pictures(tmp_path, images, shard_size=1)
    passes = []
    for marks in (tmp_path / "first", tmp_path / "second"):
        marks.mkdir()
        assert len(list(go(run, paint_plan(network=(Heavy(str(marks)),)), list(range(8))))) == 8
        loaded = [mark.name.partition("-")[0] for mark in marks.iterdir()]
        assert len(loaded) == len(set(loaded)) <= 3
        passes.append(set(loaded))
    assert passes[0] & passes[1]


@pytest.mark.timeout(900)
def test_an_actor_that_dies_while_it_starts_is_replaced(local_ray: None, tmp_path: Path) -> None:
    run = write_pictures(tmp_path, ("a", "b"), shard_size=1)
    marks = tmp_path / "marks"
    marks.mkdir()
    plan = paint_plan(network=(DiesAtStart(str(marks), times=2),))
    workers = {"cpus": 0.5, "workers": 2}
    resources = {"fuse": False, "network": workers, "cpu": workers}  # networks in actors, as on GPUs
    config = validate({"output": run.root, "data": {"source": "samples"}, "resources": resources})
    assert [one["ok"] for one in run_pass(plan, config, run, [0, 1], two_cpus(config))] == [1, 1]
    assert len(list(marks.iterdir())) == 2
    assert not Path(run.url("predict", "tries")).exists()
