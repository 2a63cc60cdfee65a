import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
from support.shards import fixed
from support.small_runs import command

from pfit_ray import storage
from pfit_ray.config.load import resolved_yaml, validate
from pfit_ray.ops.scores.suggest_threshold import ValueHistogram
from pfit_ray.results.thresholds import suggested_thresholds
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.tasks.encode import array_bytes


def write_seeds(root: Path) -> tuple[RunDirectory, list[np.ndarray]]:
    run = RunDirectory(str(root))
    cams = [np.random.default_rng(seed).beta(0.5, 2.0, (1, 20, 30)).astype(np.float16) for seed in range(4)]
    for shard in (0, 1):
        rows = [{"image_id": str(number), "cam": array_bytes(cams[number])} for number in (2 * shard, 2 * shard + 1)]
        storage.write_bytes(fixed(run, "seeds", "rows", shard), pd.DataFrame(rows).to_parquet())
        run.write_json({}, "seeds", "done", f"{shard:05d}.json")
    return run, cams


def threshold_of(cams: list[np.ndarray]) -> float | None:
    histogram = ValueHistogram()
    for cam in cams:
        histogram.add(cam)
    return histogram.threshold()


def test_all_finished_shards_count(tmp_path: Path) -> None:
    run, cams = write_seeds(tmp_path)
    assert suggested_thresholds(run) == {"cam": {"threshold": threshold_of(cams), "images": 4}}
    assert suggested_thresholds(RunDirectory(str(tmp_path / "empty"))) == {}


def test_command_without_ground_truth(tmp_path: Path, local_ray: None, monkeypatch) -> None:
    run, cams = write_seeds(tmp_path)
    config = validate({"output": run.root, "data": {"source": "folder", "root": "photos", "classes": ["cat"]}})
    storage.write_bytes(run.url("config.yaml"), resolved_yaml(config).encode())
    monkeypatch.setattr("pfit_ray.runner.scoring_step.evaluate_run", lambda *_: {})  # the manifest has no masks
    done = command("evaluate", run.root)
    assert done.code == 0
    assert "has ground truth; set data.masks" in done.err
    level = threshold_of(cams)
    assert re.search(rf"^cam: the maps of 4 images suggest the threshold {level:g} ", done.out, re.MULTILINE)
    said = json.loads(command("evaluate", run.root, "--format", "json").out)
    assert said["suggested"]["cam"] == {"threshold": level, "images": 4}
