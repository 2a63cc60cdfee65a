"""What is hard to read is read right, what cannot be is a row of the failures tables, and good images do not notice."""

import io
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import ray.cloudpickle
from conftest import SmallRun
from PIL import Image
from support import bad_inputs
from support.places import REPOSITORY
from support.small_runs import (
    LABELS,
    QUICKSTART,
    SMALL,
    Finished,
    command,
    label_files,
    label_map,
    table,
    write_photographs,
)

from pfit_ray.constants import REASONS
from pfit_ray.data.images import decode_image
from pfit_ray.runner import run as runner
from pfit_ray.tasks.passes import plan_pass

pytestmark = pytest.mark.timeout(900)

GOOD = {"chelsea": "cat", "coffee": "cup", "motorcycle_left": "motorbike", "rocket": "rocket"}

READING = {
    "no_bytes": ("fetch", "empty_file"),
    "truncated": ("decode", "unreadable"),
    "letter": ("decode", "unreadable"),
    "bomb": ("decode", "too_large"),
    "missing": ("fetch", "missing"),
    "denied": ("fetch", "denied"),
    "slow": ("fetch", "timeout"),
}
TWICE = {"grey": ("source", "bad_id")}
LABEL = {"stranger": ("source", "unknown_class"), "unlabelled": ("cam", "no_label")}
FAILURES = {
    "seeds": READING | TWICE | LABEL | {"white": ("cam", "non_finite")},
    "labels": dict.fromkeys((*READING, *LABEL, "white"), ("seeds", "upstream"))
    | TWICE
    | {"stranger": ("source", "unknown_class")},
    "predict": READING | TWICE | {"white": ("predict", "non_finite")},
}
"""Stage and reason in each pass: where an image cannot be read, its id occurs twice, its label cannot be used (pass 3
needs none), and a network puts out NaN."""


PLACES = ["uri", "label_file", "label_offset"]
"""Columns that say where an image and its label map lie: other images in a shard change them, and no result."""


def small_photo() -> np.ndarray:
    """The cat, 40 x 27 pixels."""
    with Image.open(Path(np.__file__).parents[1] / "skimage" / "data" / "chelsea.png") as photo:
        return np.asarray(photo.convert("RGB").resize((40, 27)))


ODD = bad_inputs.odd_files(small_photo())


class Matrix(NamedTuple):
    """A run over good, odd and hopeless images, one without most of them, and what the first said."""

    folder: Path
    other: Path
    said: Finished


@pytest.fixture(scope="module")
def matrix(small_run: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    """A run with zero-shot CAMs and the networks that the small run has trained."""
    place = tmp_path_factory.mktemp("matrix")
    networks = {name: small_run.folder / "checkpoints" / f"{name}.safetensors" for name in ("affinitynet", "deeplab")}
    root = write_photographs(place / "images")
    photographs = {path.stem: path.name for path in root.iterdir()}
    hopeless = bad_inputs.hopeless_files(small_photo())
    bad_inputs.write_files(root, {name: odd.data for name, odd in ODD.items()} | hopeless)
    Image.new("RGB", (40, 27), "white").save(root / "white.png")

    good = [{"image": name, "classes": [GOOD[stem]]} for stem, name in sorted(photographs.items())]
    cats = [*ODD, *hopeless, "white.png", "missing.jpg", "faulty://bucket/denied.jpg", "faulty://bucket/slow.jpg"]
    odd: list[dict[str, Any]] = [{"image": name, "image_id": Path(name).stem, "classes": ["cat"]} for name in cats]
    odd += [
        {"image": "plain.png", "image_id": "../evil", "classes": ["cat"]},
        {"image": "plain.png", "image_id": "grey", "classes": ["cat"]},
        {"image": "plain.png", "image_id": "stranger", "classes": ["dragon"]},
        {"image": "plain.png", "image_id": "unlabelled", "classes": None},
    ]

    rows = [*odd[:9], *good, *odd[9:]]
    (place / "table.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    words = [
        *("run", QUICKSTART, *SMALL, "data.source=table", f"data.table={place / 'table.jsonl'}", f"data.root={root}"),
        *(f"{network}.source=weights" for network in networks),
        *(f"{network}.weights={weights}" for network, weights in networks.items()),
        *("predicted_labels.threshold=1", "predicted_labels.empty=fail"),
        *(f"output={place / 'run'}", "max_failed_fraction=0.6", "shard_size=8", "sheets=0"),
    ]

    ray.cloudpickle.register_pickle_by_value(bad_inputs)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runner, "plan_pass", lambda *given: bad_inputs.FaultyPlan(**vars(plan_pass(*given))))
            said = command(*words)
        assert said.code == 0, said
    finally:
        ray.cloudpickle.unregister_pickle_by_value(bad_inputs)
    return Matrix(place / "run", small_run.folder, said)


@pytest.mark.parametrize("name", ODD)
def test_odd_files_are_read_right(name: str) -> None:
    data, expected = ODD[name]
    found = decode_image(data, 1_000_000)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_what_a_camera_turned_is_upright(orientation: int) -> None:
    found = decode_image(ODD[f"turned_{orientation}.jpg"].data, 1_000_000)
    assert np.abs(found.astype(int) - small_photo()).mean() < 4


@pytest.mark.parametrize("pass_name", FAILURES)
def test_good_and_failed_images_are_the_manifest(matrix: Matrix, pass_name: str) -> None:
    manifest = pd.read_parquet(matrix.folder / "manifest" / ("predict" if pass_name == "predict" else "train"))
    good, failed = table(matrix.folder, pass_name), table(matrix.folder, pass_name, "failures")
    assert sorted([*good.index, *failed.index]) == sorted(manifest["image_id"])
    odd = {Path(name).stem for name in ODD}
    (safe,) = (image_id for image_id in good.index if "evil" in image_id)
    assert re.fullmatch("[A-Za-z0-9_-]+", safe)
    assert set(good.index) == set(GOOD) | odd | {safe} | (set(LABEL) if pass_name == "predict" else set())
    said = f"pass {pass_name}: {len(good)} ok + {len(failed)} failed = {len(manifest)} images"
    assert said in matrix.said.out


@pytest.mark.parametrize("pass_name", FAILURES)
def test_every_hopeless_image_is_a_row_with_its_reason(matrix: Matrix, pass_name: str) -> None:
    failed = table(matrix.folder, pass_name, "failures")
    assert {row.Index: (row.stage, row.reason) for row in failed.itertuples()} == FAILURES[pass_name]
    assert set(failed["reason"]) <= set(REASONS)
    assert failed["message"].str.len().min() > 10
    assert all(uri.startswith(("/", "faulty://")) for uri in failed["uri"])
    assert set(failed["pass"]) == {pass_name}
    assert set(failed["attempt"]) == {1}


def test_good_images_do_not_notice_the_others(matrix: Matrix) -> None:
    for label, pass_name in LABELS.items():
        rows = [table(run, pass_name).loc[sorted(GOOD)] for run in (matrix.folder, matrix.other)]
        pd.testing.assert_frame_equal(*(one.drop(columns=PLACES) for one in rows), check_exact=True)
        files = [label_files(run, label) for run in (matrix.folder, matrix.other)]
        assert all(files[0][name] == files[1][name] for name in GOOD)


@pytest.mark.parametrize("name", ODD)
def test_odd_images_have_maps_of_their_size_and_finite_scores(matrix: Matrix, name: str) -> None:
    image_id, size = name.partition(".")[0], ODD[name].pixels.shape[:2]
    for label, pass_name in LABELS.items():
        row = table(matrix.folder, pass_name).loc[image_id]
        assert (row["height"], row["width"]) == size
        scores = {column: value for column, value in row.items() if isinstance(value, np.floating | float)}
        assert len(scores) == 3
        assert np.isfinite(np.array(list(scores.values()), dtype=float)).all()
        assert label_map(label_files(matrix.folder, label)[image_id]).shape == size
    cam = np.load(io.BytesIO(table(matrix.folder, "seeds").loc[image_id, "cam"]))
    assert cam.shape == (1, -(-size[0] // 4), -(-size[1] // 4))


def test_equal_pixels_have_equal_results(matrix: Matrix) -> None:
    for label, pass_name in LABELS.items():
        rows, files = table(matrix.folder, pass_name), label_files(matrix.folder, label)
        assert files["animated_webp"] == files["plain"]
        pd.testing.assert_series_equal(
            *(rows.loc[name].drop(PLACES) for name in ("animated_webp", "plain")), check_names=False
        )


def test_the_documented_reasons_are_those_of_the_tables() -> None:
    text = (REPOSITORY / "docs" / "failures.md").read_text()
    documented = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", text.split("## Reasons")[1].split("## ")[0], re.MULTILINE))
    assert documented == REASONS
