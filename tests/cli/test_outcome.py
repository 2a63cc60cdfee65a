import shlex
from pathlib import Path
from typing import Any

import pytest
from support.small_runs import command

from pfit_ray.cli.outcome import LISTED, MENDABLE, TRANSIENT, describe_outcome
from pfit_ray.constants import REASONS
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.runner.run import Outcome

METRICS = {"cam": {"miou": 0.5}}


def outcome(folder: Path, reasons: dict[str, dict[str, int]], **fields: Any) -> Outcome:
    (folder / "report.html").touch()
    counts = {name: (4, sum(failed.values())) for name, failed in reasons.items()}
    return Outcome(
        RunDirectory(str(folder)), True, **{"counts": counts, "reasons": reasons, "metrics": METRICS} | fields
    )


def told(one: Outcome, *overrides: str) -> list[str]:
    return list(describe_outcome(one, ["pfit-ray", "run", "my config.yaml", *overrides]))


def test_nothing_has_failed(tmp_path: Path) -> None:
    (tmp_path / "sheets").mkdir()
    (tmp_path / "sheets" / "cat.png").touch()
    assert told(outcome(tmp_path, {"seeds": {}, "labels": {}, "predict": {}})) == [
        "pass seeds: 4 ok + 0 failed = 4 images",
        "pass labels: 4 ok + 0 failed = 4 images",
        "pass predict: 4 ok + 0 failed = 4 images",
        f"Results: {tmp_path}",
        f"Look: {tmp_path}/report.html, contact sheets in {tmp_path}/sheets, or pfit-ray serve {tmp_path}",
        f"Next: pfit-ray export {tmp_path} --format voc -o FOLDER for other tools (or coco, yolo, fiftyone, labelme, "
        "cvat, png, hf)",
        f"Next: pfit-ray predict {tmp_path} IMAGES -o OUT labels other images with the trained network; pfit-ray "
        "export-model writes it as ONNX",
    ]


def test_without_contact_sheets(tmp_path: Path) -> None:
    assert f"Look: {tmp_path}/report.html or pfit-ray serve {tmp_path}" in told(outcome(tmp_path, {"seeds": {}}))


def test_failures_are_grouped_and_what_to_do_follows_from_their_kind(tmp_path: Path) -> None:
    seeds = {"unreadable": 9, "timeout": 3, "no_label": 2, "skipped": 1, "too_large": 1, "missing": 1}
    lines = told(outcome(tmp_path, {"seeds": seeds, "labels": {"upstream": 14}}), "output=a b", "cam.flip=false")
    assert lines[:2] == [
        "pass seeds: 4 ok + 17 failed = 21 images; 9 unreadable, 3 timeout, 2 no_label, 1 skipped, 2 others: "
        f"{tmp_path}/seeds/failures",
        f"pass labels: 4 ok + 14 failed = 18 images; 14 upstream: {tmp_path}/labels/failures",
    ]
    run = "pfit-ray run 'my config.yaml' 'output=a b' cam.flip=false"
    assert lines[4:7] == [
        f"Next: {run} --retry-failed tries the failed images again; first repair files that are unreadable, missing",
        f"Next: raise images.max_pixels for images that are too_large, then {run} --redo seeds",
        f"Next: correct labels or names (no_label), then {run} --redo data, which computes everything again",
    ]
    assert len(lines) == 8


@pytest.mark.parametrize(
    ("reasons", "words"),
    [
        ({"skipped": 2, "upstream": 1}, ""),
        ({"empty_file": 1}, "repair files that are empty_file, then pfit-ray run 'my config.yaml' --retry-failed"),
        ({"stuck": 1}, "pfit-ray run 'my config.yaml' --retry-failed tries the failed images again"),
    ],
)
def test_only_what_may_help_is_advised(tmp_path: Path, reasons: dict[str, int], words: str) -> None:
    advice = [line for line in told(outcome(tmp_path, {"labels": reasons})) if "export" not in line and "Next" in line]
    assert advice == ([f"Next: {words}"] if words else [])


def test_seeds_without_ground_truth_and_without_a_report(tmp_path: Path) -> None:
    one = outcome(tmp_path, {"seeds": {}}, metrics={})
    (tmp_path / "report.html").unlink()
    assert told(one, "passes=[seeds]")[1:] == [
        f"Results: {tmp_path}",
        f"Next: pfit-ray report {tmp_path} writes one page of counts, scores and pictures",
        f"Next: pfit-ray evaluate {tmp_path} suggests thresholds, because there is no ground truth",
        "Next: pfit-ray run 'my config.yaml' 'passes=[seeds,labels]' continues to pseudo labels",
    ]


def test_reasons_are_those_of_the_failures_table() -> None:
    assert {*TRANSIENT, *MENDABLE, *LISTED} <= set(REASONS)


def test_the_end_of_a_run(small_run) -> None:
    lines = small_run.said.out.splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("pass seeds:"))
    assert lines[begin].startswith("pass seeds: 4 ok + 5 failed = 9 images; 2 unreadable, ")
    assert lines[begin].endswith(f": {small_run.folder}/seeds/failures")
    last = lines[begin:]
    assert f"Results: {small_run.folder}" in last
    assert len(last) <= 10
    assert f"Next: {shlex.join(['pfit-ray', 'export', str(small_run.folder)])} --format voc" in last[-2]
    retry = next(line for line in last if "--retry-failed" in line)
    words = shlex.split(retry.partition("pfit-ray ")[2])
    assert words == [*small_run.words, f"output={small_run.folder}", "--retry-failed"]
    assert not (small_run.folder / "progress.json").exists()


def test_the_commands_that_are_named_exist() -> None:
    for name, option in (("run", "--retry-failed"), ("export", "--format"), ("evaluate", "RUN"), ("report", "RUN")):
        assert option in command(name, "--help").out
