"""The columns and keys that docs/formats.md names are those of a finished run."""

import doctest
import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import SmallRun
from support.places import REPOSITORY

from pfit_ray.nets.weights import load_state
from pfit_ray.rundir.manifest import MANIFEST_SCHEMA

TEXT = (REPOSITORY / "docs" / "formats.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return re.split(r"^## ", TEXT.partition(f"\n## {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def names(text: str) -> set[str]:
    return set(re.findall(r"`([a-z_0-9]+)`", text))


def first_column(title: str) -> set[str]:
    lines = section(title).splitlines()
    return {name for line in lines if line.startswith("| `") for name in names(line.split(" | ")[0])}


def test_columns_of_the_rows(small_run: SmallRun) -> None:
    told = re.findall(r"^\| (`.+?) \| ([a-z, ]+) \|", section("Rows"), re.MULTILINE)
    for pass_name in ("seeds", "labels", "predict"):
        columns = pq.read_schema(next((small_run.folder / pass_name / "rows").glob("*.parquet"))).names
        own = {
            name
            for cell, passes in told
            if passes == "all" or pass_name in passes
            for name in re.findall(r"`(\w+)`", cell)
        }
        assert {re.sub("_(slic|quickshift)$", "_NAME", name) for name in columns} == own


def test_keys_of_markers_and_of_the_manifest(small_run: SmallRun) -> None:
    for pass_name in ("seeds", "labels", "predict"):
        for path in (small_run.folder / pass_name / "done").glob("*.json"):
            marker = json.loads(path.read_text())
            assert set(marker) == first_column("Markers")
            assert {key for stage in marker["stages"].values() for key in stage} <= names(section("Markers"))
    assert set(json.loads((small_run.folder / "manifest" / "train.json").read_text())) == first_column("Manifest")
    assert set(MANIFEST_SCHEMA.names) == first_column("Manifest rows")


def test_networks_and_trainings(small_run: SmallRun) -> None:
    said = names(section("Networks"))
    for network in ("classifier", "affinitynet", "deeplab"):
        path = small_run.folder / "checkpoints" / f"{network}.safetensors"
        assert {"network", "backbone", "classes"} <= set(load_state(path)[1]) <= said
        assert set(json.loads(path.with_suffix(".json").read_text())) <= said
    for network in ("affinitynet", "deeplab"):
        folder = small_run.folder / "train" / network
        files = {path.name for path in folder.iterdir()}
        assert files <= set(re.findall(r"^\| `([^`/]+)/?` \|", section("Networks"), re.MULTILINE))
        records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        parts = {"background_pairs", "foreground_pairs", "unequal_pairs", "cross_entropy"}  # of the losses
        assert {key for record in records for key in record} - parts <= said
        assert {"label_url", "label_offset", "label_size"} <= set(pq.read_schema(folder / "examples.parquet").names)


def test_examples(small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(small_run.folder)
    monkeypatch.chdir(tmp_path)
    examples = doctest.DocTestParser().get_doctest(TEXT, {}, "formats.md", "formats.md", 0)
    said: list[str] = []
    failed, tried = doctest.DocTestRunner(verbose=False).run(examples, out=said.append)
    assert failed == 0, "".join(said)
    assert tried > 10
