import json
from pathlib import Path

import pytest

from pfit_ray.rundir.directory import IMAGE_SET, LABEL_COLUMN, NETWORKS, RunDirectory


def test_places() -> None:
    run = RunDirectory("s3://bucket/run/")
    assert run.url("config.yaml") == "s3://bucket/run/config.yaml"
    assert run.rows("seeds", 3) == "s3://bucket/run/seeds/rows/00003.parquet"
    assert run.failures("seeds", 3) == "s3://bucket/run/seeds/failures/00003.parquet"
    assert run.labels("seeds", 3) == "s3://bucket/run/seeds/affinity_labels/00003.tar"
    assert run.labels("labels", 12345) == "s3://bucket/run/labels/pseudo_labels/12345.tar"
    assert run.labels("predict", 123456) == "s3://bucket/run/predict/predictions/123456.tar"
    assert run.marker("predict", 0) == "s3://bucket/run/predict/done/00000.json"
    assert run.weights("deeplab") == "s3://bucket/run/checkpoints/deeplab.safetensors"


def test_names() -> None:
    assert list(LABEL_COLUMN) == list(IMAGE_SET) == ["seeds", "labels", "predict"]
    assert set(IMAGE_SET.values()) == {"train", "predict"}
    assert NETWORKS == ("classifier", "affinitynet", "deeplab")


@pytest.fixture(params=["local", "memory"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> RunDirectory:
    return RunDirectory(str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}")


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
