"""The experiment of docs/research/results.md on few photographs, from seeds to the final network."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.places import REPOSITORY

FASTER = ["deeplab.train.epochs=2", "predict.flip=false"]
"""The final network learns next to nothing from 24 photographs in any case."""

GROUPS = {"fails": 6, "pooling harms": 3, "pooling helps": 3}
"""Contact sheets."""


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_from_seeds_to_the_final_network(voc_animals: Path, animal_weights: Path, tmp_path: Path) -> None:
    script = REPOSITORY / "benchmarks" / "voc_animals.py"
    words = [sys.executable, str(script), "--root", str(voc_animals), "--classifier", str(animal_weights)]
    words += ["--cache", str(tmp_path), "--images", "24", "--seeds", "1", "--val", "8"]
    words += ["--arms", "none,fit,pool", "--walk", "fit", "--sheets", str(tmp_path / "sheets"), "--set", *FASTER]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = [(name, float(value)) for name, value in re.findall(r"^\| ([a-z ]+) \| (\d+\.\d\d) \[", done.stdout, re.M)]
    assert [name for name, _ in found] == ["none", "fit", "pool", "ground truth", "fit", "fit pooled"]
    none, fit, pool = (value for _, value in found[:3])
    pseudo = re.search(r"^\| fit \| pseudo cam \| (\d+\.\d\d) \[", done.stdout, re.M)
    assert pseudo
    assert 30 < none < min(fit, pool)
    assert max(fit, pool) < float(pseudo[1])
    sheets = sorted(path.name.rsplit(" ", 1)[0] for path in (tmp_path / "sheets").iterdir())
    assert sheets == [f"fit {group} {rank}" for group, most in GROUPS.items() for rank in range(1, most + 1)]
