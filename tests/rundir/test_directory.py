import json
from pathlib import Path

import pytest

from pfit_ray import storage
from pfit_ray.rundir.directory import IMAGE_SET, LABEL_COLUMN, NETWORKS, RunDirectory
from pfit_ray.rundir.pace import read_metrics
from pfit_ray.rundir.review import run_marks


def test_places() -> None:
    run = RunDirectory("s3://bucket/run/")
    assert run.url("config.yaml") == "s3://bucket/run/config.yaml"
    assert run.folder("seeds", "labels") == "s3://bucket/run/seeds/affinity_labels"
    assert run.folder("labels", "labels") == "s3://bucket/run/labels/pseudo_labels"
    assert run.folder("predict", "rows") == "s3://bucket/run/predict/rows"
    assert run.marker("predict", 0) == "s3://bucket/run/predict/done/00000.json"
    assert run.weights("deeplab") == "s3://bucket/run/checkpoints/deeplab.safetensors"


def test_a_marker_names_the_files_of_its_shard() -> None:
    run = RunDirectory("s3://bucket/run")
    named = {"rows": ["00003-ab.parquet", 7], "labels": ["../../00003-cd.tar", 9]}
    files = run.files("seeds", 3, {"failed": 0, "files": named})
    assert files.rows == ("s3://bucket/run/seeds/rows/00003-ab.parquet", 7)
    assert files.labels == ("s3://bucket/run/seeds/affinity_labels/00003-cd.tar", 9)
    assert files.failures is None


@pytest.mark.parametrize("failed", [0, 2])
def test_the_files_of_older_versions_have_fixed_names(failed: int) -> None:
    run = RunDirectory("s3://bucket/run")
    files = run.files("predict", 123456, {"failed": failed})
    assert files.rows == ("s3://bucket/run/predict/rows/123456.parquet", None)
    assert files.labels == ("s3://bucket/run/predict/predictions/123456.tar", None)
    assert files.failures == (("s3://bucket/run/predict/failures/123456.parquet", None) if failed else None)


def test_names() -> None:
    assert list(LABEL_COLUMN) == list(IMAGE_SET) == ["seeds", "labels", "predict"]
    assert set(IMAGE_SET.values()) == {"train", "predict"}
    assert NETWORKS == ("classifier", "affinitynet", "deeplab")


@pytest.fixture(params=["local", "memory"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> RunDirectory:
    return RunDirectory(str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}")


def test_a_file_that_goes_while_it_is_looked_for(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "exists", lambda url: True)
    assert run.read_json("progress.json") is None
    assert read_metrics(run.url("train", "deeplab")) == []
    assert run_marks(run) == {}
    for shard in (0, 1):
        run.write_json({"shard": shard}, "seeds", "done", f"0000{shard}.json")
    listed = run.markers("seeds")
    storage.remove(run.marker("seeds", 0))  # as --redo does
    assert dict(listed) == {1: {"shard": 1}}


def test_json(run: RunDirectory) -> None:
    assert run.read_json("manifest", "train.json") is None
    run.write_json({"images": 3}, "manifest", "train.json")
    assert run.read_json("manifest", "train.json") == {"images": 3}
    run.write_json({"images": 4}, "manifest", "train.json")
    assert run.read_json("manifest", "train.json") == {"images": 4}


def test_json_is_for_people_too(tmp_path: Path) -> None:
    RunDirectory(str(tmp_path)).write_json({"a": [1]}, "a.json")
    text = (tmp_path / "a.json").read_text()
    assert text == '{\n "a": [\n  1\n ]\n}\n'
    assert json.loads(text) == {"a": [1]}


def test_finished_shards(run: RunDirectory) -> None:
    assert run.finished_shards("seeds") == {}
    for shard in (100000, 2, 11):
        run.write_json({"shard": shard}, "seeds", "done", f"{shard:05d}.json")
    run.write_json({}, "seeds", "done", "notes.json")
    run.write_json({}, "labels", "done", "00000.json")
    assert list(run.finished_shards("seeds").items()) == [
        (2, {"shard": 2}),
        (11, {"shard": 11}),
        (100000, {"shard": 100000}),
    ]
    assert run.finished_numbers("seeds") == [2, 11, 100000]
    assert run.finished_numbers("predict") == []
