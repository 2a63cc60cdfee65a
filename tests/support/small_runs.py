"""A small corpus, the quickstart config on it, and readers that know pandas, tarfile and PIL alone."""

import io
import sys
import tarfile
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from importlib import resources
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import pandas as pd
from PIL import Image
from support.places import REPOSITORY

from pfit_ray import storage
from pfit_ray.cli.app import main

QUICKSTART = str(REPOSITORY / "configs" / "quickstart.yaml")
SIDE = 112

PHOTOGRAPHS = {"chelsea.png": "cat", "coffee.png": "cup", "motorcycle_left.png": "motorbike", "rocket.jpg": "rocket"}
"""Photographs in scikit-image's wheel, and what each shows."""

LABELS = {"affinity_label": "seeds", "pseudo_label": "labels", "prediction": "predict"}
"""Label maps and the passes that write them."""

SMALL = [
    "data.classes=[cat, cup, motorbike, rocket]",
    "classifier.zero_shot.rocket=[657, 744]",
    "regions.uss.max_side=null",
    "shard_size=2",
    "network_engine=channels_last",
    "cam.scales=[1, 2]",
    "regions.slic.n_segments=100",
    "regions.uss.max_iterations=16",
    "affinitynet.radius=4",
    "walk.exp_times=4",
    "pseudo_label.threshold=0.6",
    "resources.train.cpus_per_worker=1",
    "predict.scales=[1]",
    *(
        f"{network}.train.{setting}"
        for network in ("affinitynet", "deeplab")
        for setting in ("epochs=2", "crop=64", "min_side=64", "max_side=112")
    ),
]
"""What makes the quickstart quick: small images, few steps, no graph for onnxruntime in each worker."""


class Finished(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


def command(*words: str) -> Finished:
    """Run a command line in this process; it takes the Ray that this process has joined."""
    out, err = io.StringIO(), io.StringIO()
    with mock.patch.object(sys, "argv", ["pfit-ray", *words]), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            return Finished(int(end.code or 0), out.getvalue(), err.getvalue())
    raise AssertionError("main() always leaves with an exit code")


def one_sentence(finished: Finished) -> str:
    """The only line that a user's mistake puts on stderr, after a check of the exit code."""
    assert finished.code == 2, finished
    assert "Traceback" not in finished.err + finished.out
    (line,) = finished.err.splitlines()
    return line


def write_photographs(folder: Path, names: Iterable[str] = tuple(PHOTOGRAPHS)) -> Path:
    """Shrunken photographs: JPEGs and, for every other one, PNGs."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(sorted(names)):
        with Image.open(str(resources.files("skimage") / "data" / name)) as photo:
            small = photo.convert("RGB")
            small.thumbnail((SIDE, SIDE))
            small.save(folder / f"{name.partition('.')[0]}.{'png' if number % 2 else 'jpg'}", quality=95)
    return folder


def write_label_table(path: Path, rows: dict[str, str]) -> Path:
    """A CSV of image-level labels."""
    path.write_text("image,classes\n" + "".join(f"{name},{classes}\n" for name, classes in rows.items()))
    return path


def table(run: Path, pass_name: str, kind: str = "rows") -> pd.DataFrame:
    """All rows or failures of a pass by image id."""
    files = sorted((run / pass_name / kind).glob("*.parquet"))
    return pd.concat([pd.read_parquet(file) for file in files]).set_index("image_id").sort_index()


def label_files(run: Path, label: str) -> dict[str, bytes]:
    """The PNG files in a pass's tar files by image id."""
    found: dict[str, bytes] = {}
    for path in sorted((run / LABELS[label] / f"{label}s").glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                data = tar.extractfile(member)
                assert data is not None
                found[member.name.removesuffix(".png")] = data.read()
    return found


def label_map(data: bytes) -> np.ndarray:
    """Label ids of a PNG."""
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "P"
        return np.asarray(image)


def mtimes(run: Path) -> dict[str, int]:
    """When each file of a run was written."""
    return {str(path.relative_to(run)): path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}


def downloaded(url: str, folder: Path) -> Path:
    """Copy a run from a bucket."""
    for file, _ in storage.list_files(url):
        path = folder / file.removeprefix(f"{url}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(storage.read_bytes(file))
    return folder


def assert_same_results(
    one: Path,
    other: Path,
    same_places: bool = True,
    same_source: bool = True,
    labels: Iterable[str] = tuple(LABELS),
) -> None:
    """Compare all values, PNGs and failures of two runs, bit by bit.

    Args:
        one: a run directory.
        other: another one.
        same_places: whether their shards are the same, so that label maps lie at the same places in the tar files.
        same_source: whether the images lie in one place, so that URIs are the same.
        labels: the label maps to compare, each with the tables of its pass.
    """
    moved = [*([] if same_places else ["label_file", "label_offset"]), *([] if same_source else ["uri"])]
    for label in labels:
        pass_name = LABELS[label]
        rows = [table(run, pass_name).drop(columns=moved) for run in (one, other)]
        pd.testing.assert_frame_equal(*rows, check_exact=True)
        if any(any((run / pass_name / "failures").glob("*.parquet")) for run in (one, other)):
            failed = [table(run, pass_name, "failures") for run in (one, other)]
            pd.testing.assert_frame_equal(*(failed if same_source else [rows[["stage", "reason"]] for rows in failed]))
        assert label_files(one, label) == label_files(other, label)
