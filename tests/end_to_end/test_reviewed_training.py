"""Marks that people set in the explorer decide what a network is trained on."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import SmallRun
from support.explorer_run import TOKEN, Visitor
from support.small_runs import command, mtimes, one_sentence

from pfit_ray.results.explorer.guard import csrf_token
from pfit_ray.rundir.directory import open_run

pytestmark = pytest.mark.slow


def test_trained_anew_without_what_was_rejected(small_run: SmallRun, local_ray: None, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(small_run.folder, run)
    directory, config = open_run(str(run))
    explorer = Visitor(config, directory)
    headers = {"accept": "application/json", "x-csrf-token": csrf_token(TOKEN)}
    for image_id, mark in (("rocket", "reject"), ("coffee", "accept")):
        answer = explorer.client.post("/mark", data={"id": image_id, "mark": mark}, headers=headers)
        assert answer.status_code == 200
    before = mtimes(run)

    words = [*small_run.words, f"output={run}", "deeplab.train.review=not_rejected"]
    assert "'deeplab.train.review' was None" in one_sentence(command(*words))
    done = command(*words, "--redo", "deeplab")
    assert done.code == 0, done
    learned = pq.read_table(run / "train" / "deeplab" / "examples.parquet")["image_id"].to_pylist()
    assert learned == ["chelsea", "coffee", "motorcycle_left"]
    weights = "checkpoints/deeplab.safetensors"
    assert (run / weights).read_bytes() != (small_run.folder / weights).read_bytes()
    record = json.loads((run / "checkpoints" / "deeplab.json").read_text())
    assert record["review"] == "not_rejected"
    after = mtimes(run)
    assert {name.partition("/")[0] for name in before if after.get(name) == before[name]} >= {
        "seeds",
        "labels",
        "review",
    }
