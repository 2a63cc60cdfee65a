"""A run directory that an older version has finished: every command reads it, and `run` finds it finished."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.old_run import unpacked
from support.small_runs import command, mtimes

import pfit_ray as pf
from pfit_ray.results.explorer.index import Index


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return unpacked(tmp_path)


def test_status(old: Path) -> None:
    lines = command("status", str(old)).out.splitlines()
    for name in ("seeds", "labels", "predict"):
        assert any(line.startswith(f"pass {name}: 3 of 3 images (2 ok, 1 failed), 2 of 2 shards") for line in lines)
    assert lines[:3] == [f"{network}: ready" for network in ("classifier", "affinitynet", "deeplab")]


def test_plan_and_run_find_it_finished(old: Path) -> None:
    before = mtimes(old)
    planned = command("plan", str(old / "config.yaml"))
    assert planned.code == 0, planned
    steps = [
        line for line in planned.out.splitlines() if line.startswith(("manifest ", "network ", "pass ", "evaluation"))
    ]
    assert [line.split(": ", 1)[1].partition(",")[0] for line in steps] == ["finished"] * len(steps)
    assert len(steps) == 9
    ran = command("run", str(old / "config.yaml"))
    assert ran.code == 0, ran
    assert f"Nothing to do: {old} is finished" in ran.out
    assert mtimes(old) == before


def test_run_goes_on(old: Path, local_ray: None) -> None:
    """Its report is scored again; the scores are the old ones."""
    scores = json.loads((old / "evaluation.json").read_text())
    (old / "evaluation.json").unlink()
    ran = command("run", str(old / "config.yaml"))
    assert ran.code == 0, ran
    assert "pass labels: 2 ok + 1 failed = 3 images; 1 upstream" in ran.out
    again = json.loads((old / "evaluation.json").read_text())
    assert {name: again[name]["miou"] for name in scores} == {name: scores[name]["miou"] for name in scores}
    assert (old / "report.html").exists()


def test_export(old: Path, tmp_path: Path) -> None:
    said = command("export", str(old), "--format", "png", "-o", str(tmp_path / "out"))
    assert said.code == 0, said
    for name in ("chelsea", "coffee"):
        with Image.open(tmp_path / "out" / "labels" / f"{name}.png") as label:
            assert (
                np.asarray(label).shape == np.asarray(Image.open(next(old.parent.glob(f"photos/{name}.*")))).shape[:2]
            )


def test_report_and_show(old: Path) -> None:
    assert command("report", str(old)).code == 0
    assert "coffee" in (old / "report.html").read_text()
    assert command("show", str(old), "coffee").code == 0
    assert Image.open(io.BytesIO((old / "sheets" / "coffee.png").read_bytes())).size[0] > 100


def test_evaluate(old: Path, local_ray: None) -> None:
    said = command("evaluate", str(old))
    assert said.code == 0, said
    assert "pseudo_label" in said.out


def test_open(old: Path) -> None:
    run = pf.open(str(old))
    table = run.labels().pandas()
    assert sorted(table.index) == ["chelsea", "coffee"]
    assert [row["label"].shape == (row["height"], row["width"]) for row in run.labels()] == [True, True]
    assert run.failures("predict")["reason"].tolist() == ["unreadable"]


def test_the_explorer_lists_its_images(old: Path) -> None:
    run = pf.open(str(old))
    index = Index(run.directory, len(run.classes))
    index.refresh()
    assert index.ids.to_pylist() == ["chelsea", "coffee", "letter"]
