"""A disk that fills in the middle of a pass: one sentence, and the same command continues when there is room."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import SmallRun
from support.small_runs import label_files, table

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1800)]

BLOCK = 4096

INSIDE = """
import pathlib, shutil, subprocess, sys
place, out, room, *words = sys.argv[1:]
seeds = pathlib.Path(place, "seeds")

def run(name):
    with open(f"{out}/{name}.log", "w") as log:
        command = [sys.executable, "-c", "from pfit_ray.cli.app import main; main()", *words]
        code = subprocess.run(command, stdout=log, stderr=log).returncode
    print(name, code, len(list(seeds.glob("done/*"))), len(list(seeds.rglob(".*"))))

subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "none", str(seeds)], check=True)
run("full")
subprocess.run(["mount", "-o", "remount,size=50m", str(seeds)], check=True)
run("room")
shutil.copytree(seeds, f"{out}/seeds")
"""
"""Runs in a mount namespace of its own, where the folder of pass 1 is a small disk."""


def test_a_disk_that_fills(small_run: SmallRun, tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-Urm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system does not let its users mount")
    run, out = tmp_path / "run", tmp_path / "out"
    (run / "seeds").mkdir(parents=True)
    out.mkdir()
    sizes = [path.stat().st_size for path in (small_run.folder / "seeds").rglob("*") if path.is_file()]
    room = sum(-(-size // BLOCK) * BLOCK for size in sizes) * 2 // 3
    words = [*small_run.words, f"output={run}", "passes=[seeds]", "sheets=0"]
    command = ["unshare", "-Urm", sys.executable, "-c", INSIDE, str(run), str(out), str(room), *words]
    said = subprocess.run(command, capture_output=True, text=True, timeout=900, check=True).stdout.splitlines()

    shards = len(list((small_run.folder / "seeds" / "done").iterdir()))
    (full, code, finished, partial), (again, code_again, finished_again, _) = (line.split() for line in said)
    assert (full, code, partial) == ("full", "2", "0")
    assert 0 < int(finished) < shards
    (sentence,) = [line for line in (out / "full.log").read_text().splitlines() if "storage is full" in line]
    assert "No space left on device" in sentence
    assert (again, code_again, int(finished_again)) == ("room", "0", shards)
    for kind in ("rows", "failures"):
        pd.testing.assert_frame_equal(table(out, "seeds", kind), table(small_run.folder, "seeds", kind))
    assert label_files(out, "affinity_label") == label_files(small_run.folder, "affinity_label")
