"""The quickstart config on small photographs, good and bad ones, through all passes and both trainings."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Corpus, SmallRun
from PIL import Image
from support.small_runs import (
    LABELS,
    QUICKSTART,
    SMALL,
    Finished,
    assert_same_results,
    command,
    label_files,
    label_map,
    mtimes,
    one_sentence,
    table,
    write_label_table,
    write_photographs,
)

from pfit_ray.config import load_config
from pfit_ray.constants import voc_palette
from pfit_ray.nets.affinitynet import AffinityNet
from pfit_ray.nets.deeplab import DeepLabV3Plus
from pfit_ray.nets.networks import load_network
from pfit_ray.nets.zero_shot import ZeroShotClassifier

pytestmark = pytest.mark.timeout(900)  # the first test waits for the whole run

GOOD = {"chelsea": [1], "coffee": [2], "motorcycle_left": [3], "rocket": [4]}
SIZES = {"chelsea": (75, 112), "coffee": (75, 112), "motorcycle_left": (76, 112), "rocket": (75, 112)}
SOURCE_FAILURES = {"stranger": ("source", "unknown_class"), "unlisted": ("source", "no_label")}
READING_FAILURES = {
    "broken": ("decode", "unreadable"),
    "empty": ("fetch", "empty_file"),
    "letter": ("decode", "unreadable"),
}
FAILURES = {
    "seeds": READING_FAILURES | SOURCE_FAILURES,
    "labels": dict.fromkeys(READING_FAILURES, ("seeds", "upstream")) | SOURCE_FAILURES,
    "predict": READING_FAILURES,  # which needs no labels
}
LABELLED = {"seeds": GOOD, "labels": GOOD, "predict": {*GOOD, *SOURCE_FAILURES}}
"""The images with a label map."""


@pytest.mark.parametrize("pass_name", FAILURES)
def test_good_and_failed_images_are_the_manifest(small_run: SmallRun, pass_name: str) -> None:
    manifest = pd.read_parquet(small_run.folder / "manifest" / "train")
    good, failed = table(small_run.folder, pass_name), table(small_run.folder, pass_name, "failures")
    assert sorted([*good.index, *failed.index]) == sorted(manifest["image_id"])
    assert list(good.index) == sorted(LABELLED[pass_name])
    assert f"pass {pass_name}: {len(good)} ok + {len(failed)} failed = 9 images" in small_run.said.out


@pytest.mark.parametrize("pass_name", FAILURES)
def test_every_bad_input_is_a_row_with_its_reason(small_run: SmallRun, pass_name: str) -> None:
    failed = table(small_run.folder, pass_name, "failures")
    found = {row.Index: (row.stage, row.reason) for row in failed.itertuples()}
    assert found == FAILURES[pass_name]
    if "stranger" in found:
        assert "class 'dragon' is not in data.classes" in failed.loc["stranger", "message"]
    assert all(Path(uri).stem == image_id for image_id, uri in failed["uri"].items())
    assert set(failed["pass"]) == {pass_name}


def test_maps_open_with_pandas_and_numpy(small_run: SmallRun) -> None:
    seeds, labels = table(small_run.folder, "seeds"), table(small_run.folder, "labels")
    for image_id, (height, width) in SIZES.items():
        seed, label = seeds.loc[image_id], labels.loc[image_id]
        assert (seed["height"], seed["width"]) == (height, width)
        assert list(seed["keys"]) == list(label["keys"]) == GOOD[image_id]
        strided = (1, -(-height // 4), -(-width // 4))
        for row, name, top in ((seed, "cam", 1), (seed, "combined_cam", 2), (label, "walk", 1)):
            values = np.load(io.BytesIO(row[name]), allow_pickle=False)
            assert values.shape == strided
            assert values.dtype == np.float16
            assert values.min() >= 0
            assert 0.5 < values.max() <= top
        assert np.load(io.BytesIO(label["edge"])).shape == strided[1:]
        for name in ("regions_slic", "regions_quickshift", "fit_mask_slic", "fit_mask_quickshift"):
            with Image.open(io.BytesIO(seed[name])) as picture:
                assert picture.size == (width, height)


@pytest.mark.parametrize("label", LABELS)
def test_label_maps_open_with_tarfile_and_pillow(small_run: SmallRun, label: str) -> None:
    files = label_files(small_run.folder, label)
    assert sorted(files) == sorted(LABELLED[LABELS[label]])
    others = {"affinity_label": {0, 255}, "pseudo_label": {0}, "prediction": {0, 1, 2, 3, 4}}[label]
    for image_id, data in files.items():
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, image.mode) == ("PNG", "P")
            assert np.array_equal(np.array(image.getpalette()).reshape(-1, 3), voc_palette())
        found = label_map(data)
        assert found.shape == SIZES.get(image_id, SIZES["chelsea"])
        assert set(np.unique(found)) <= others | set(GOOD.get(image_id, []))


def test_tables_say_where_label_maps_lie(small_run: SmallRun) -> None:
    for label, pass_name in LABELS.items():
        files = label_files(small_run.folder, label)
        for path in sorted((small_run.folder / pass_name / "rows").glob("*.parquet")):
            for row in pd.read_parquet(path).itertuples():
                tar = small_run.folder / pass_name / f"{label}s" / row.label_file
                start, end = row.label_offset, row.label_offset + row.label_size
                assert tar.read_bytes()[start:end] == files[row.image_id]


def test_the_cat_is_labelled_as_cat(small_run: SmallRun) -> None:
    for label in ("affinity_label", "pseudo_label"):
        found = label_map(label_files(small_run.folder, label)["chelsea"])
        middle = found[20:55, 30:80]
        assert (middle == 1).mean() > 0.5


def test_a_shard_without_good_images_has_its_files(small_run: SmallRun) -> None:
    folder = small_run.folder / "seeds"
    marker = json.loads((folder / "done" / "00004.json").read_text())
    assert pd.read_parquet(folder / "rows" / marker["files"]["rows"][0]).empty
    with tarfile.open(folder / "affinity_labels" / marker["files"]["labels"][0]) as tar:
        assert tar.getnames() == []
    assert (marker["ok"], marker["failed"], marker["reasons"]) == (0, 1, {"no_label": 1})


def test_contact_sheets(small_run: SmallRun) -> None:
    sheets = sorted((small_run.folder / "sheets").iterdir())
    assert {"chelsea.png", "coffee.png", "motorcycle_left.png"} <= {sheet.name for sheet in sheets}
    for sheet in sheets:
        with Image.open(sheet) as image:
            image.load()
            assert min(image.size) > 300


def test_networks_say_what_they_are(small_run: SmallRun) -> None:
    checkpoints = small_run.folder / "checkpoints"
    for name, kind in (("classifier", ZeroShotClassifier), ("affinitynet", AffinityNet), ("deeplab", DeepLabV3Plus)):
        assert type(load_network(str(checkpoints / f"{name}.safetensors"))) is kind
    for name in ("affinitynet", "deeplab"):
        lines = (small_run.folder / "train" / name / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
        assert list((small_run.folder / "train" / name / "tensorboard").iterdir())


def test_scores(small_run: SmallRun) -> None:
    scores = json.loads((small_run.folder / "evaluation.json").read_text())
    assert set(scores) == {"cam", "combined_cam", "walk", "pseudo_label", "prediction", "problems"}
    assert scores["problems"] == ["rocket: the mask has 112 x 74 pixels, its image has 112 x 75"]
    for name in ("cam", "combined_cam", "walk", "pseudo_label", "prediction"):
        assert scores[name]["images"] == 2
        assert 0 <= scores[name]["miou"] <= 1
    assert scores["cam"]["miou"] > 0.4
    assert scores["cam"]["iou"]["rocket"] is None


def test_the_run_directory_describes_itself(small_run: SmallRun) -> None:
    folder = small_run.folder
    assert load_config(str(folder / "config.yaml")) == load_config(
        QUICKSTART, [*small_run.words[2:], f"output={folder}"]
    )
    described = json.loads((folder / "environment.json").read_text())
    assert {"torch", "ray", "numpy"} <= set(described["packages"])
    assert described["seed"] == 0


def test_the_same_command_again_does_nothing_and_says_so(small_run: SmallRun) -> None:
    before = mtimes(small_run.folder)
    again = command(*small_run.words, f"output={small_run.folder}")
    assert again.code == 0
    assert f"Nothing to do: {small_run.folder} is finished." in again.out
    assert "pass predict: 6 ok + 3 failed = 9 images" in again.out
    assert "Ray" not in again.out
    assert mtimes(small_run.folder) == before


def test_a_changed_config_is_refused_and_redo_does_only_what_follows(small_run: SmallRun, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(small_run.folder, folder)
    before = mtimes(folder)
    changed = [*small_run.words, f"output={folder}", "predict.flip=false"]
    refused = one_sentence(command(*changed))
    assert all(word in refused for word in ("'predict.flip'", "True", "False", "--redo predict", str(folder)))
    assert mtimes(folder) == before

    done = command(*changed, "--redo", "predict")
    assert done.code == 0, done
    assert "predict: 9 of 9 images, 3 failed" in done.out
    after = mtimes(folder)
    written = {name.partition("/")[0] for name in after if after[name] != before.get(name)}
    pages = {"evaluation.json", "report.html", "sheets"}
    assert written == {"config.yaml", "environment.json", "manifest", "predict", "steps", *pages}
    assert {name for name in after if after[name] != before.get(name) and name.startswith(("manifest", "steps"))} == {
        "manifest/predict.json",
        "manifest/predict/00000.parquet",
        "steps/manifest-predict.json",
        "steps/predict.json",
        "steps/report.json",
    }
    margins = [table(run, "predict")["margin"] for run in (small_run.folder, folder)]
    assert not margins[0].equals(margins[1])


@pytest.fixture(scope="module")
def other_shards(small_run: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Finished, Finished]:
    """The small run with other shards, separate workers, ready networks; it stops, then goes on more patiently."""
    folder = tmp_path_factory.mktemp("other") / "run"
    checkpoints = small_run.folder / "checkpoints"
    words = [
        *small_run.words,
        f"output={folder}",
        "shard_size=3",
        "resources.fuse=false",
        "resources.network={cpus: 0.5, workers: 2}",
        "resources.cpu={cpus: 0.5, workers: 2}",
        *(f"{name}.source=weights" for name in ("affinitynet", "deeplab")),
        *(f"{name}.weights={checkpoints / name}.safetensors" for name in ("affinitynet", "deeplab")),
    ]
    return folder, command(*words, "max_failed_fraction=0.1"), command(*words)


def test_too_many_failed_images_stop_a_run(other_shards: tuple[Path, Finished, Finished]) -> None:
    folder, stopped, _ = other_shards
    assert stopped.code == 1
    (line,) = stopped.err.splitlines()
    assert all(word in line for word in ("pass seeds", "max_failed_fraction 0.1", f"{folder}/seeds/failures"))


def test_shards_and_workers_do_not_change_results(
    small_run: SmallRun, other_shards: tuple[Path, Finished, Finished]
) -> None:
    folder, _, finished = other_shards
    assert finished.code == 0, finished
    assert sorted(path.stem for path in (folder / "seeds" / "done").iterdir()) == ["00000", "00001", "00002"]
    assert_same_results(small_run.folder, folder, same_places=False)
    scores = [json.loads((run / "evaluation.json").read_text()) for run in (small_run.folder, folder)]
    for name in ("cam", "combined_cam", "walk", "pseudo_label", "prediction"):
        origins = [one[name].pop("provenance") for one in scores]
        assert origins[0]["fidelity"] == origins[1]["fidelity"]
    assert scores[0] == scores[1]


def test_photographs_without_labels_get_predicted_ones(local_ray: None, tmp_path: Path) -> None:
    folder, images = tmp_path / "run", write_photographs(tmp_path / "images")
    words = [f"data.root={images}", "data.source=folder", "passes=[seeds]", "shard_size=4", "sheets=1"]
    said = command("run", QUICKSTART, *SMALL, *words, f"output={folder}", "predicted_labels.threshold=0.1")
    assert said.code == 0, said
    seeds = table(folder, "seeds")
    assert seeds["labels_predicted"].all()
    assert {image_id: list(keys) for image_id, keys in seeds["keys"].items()} == {**GOOD, "rocket": []}
    assert set(np.unique(label_map(label_files(folder, "affinity_label")["rocket"]))) == {0}
    assert all(0.1 <= score <= 1 for scores in seeds["key_scores"] for score in scores)
    for row in seeds.itertuples():
        assert len(row.label_scores) == 4
        assert [row.label_scores[key - 1] for key in row.keys] == list(row.key_scores)
        assert all((score >= 0.1) == (key in row.keys) for key, score in enumerate(row.label_scores, start=1))
    assert not (folder / "seeds" / "failures").exists()
    assert [sheet.name for sheet in (folder / "sheets").iterdir()] == ["chelsea.png"]
    assert json.loads((folder / "evaluation.json").read_text()) == {}


@pytest.mark.slow
def test_photographs_in_which_no_class_is_seen_can_be_skipped(local_ray: None, tmp_path: Path) -> None:
    folder, images = tmp_path / "run", write_photographs(tmp_path / "images")
    words = [f"data.root={images}", "data.source=folder", "passes=[seeds]", "shard_size=4", "sheets=0"]
    words += ["predicted_labels={threshold: 1.0, class_thresholds: {cat: 0.1}, empty: skip}", "max_failed_fraction=0"]
    said = command("run", QUICKSTART, *SMALL, *words, f"output={folder}")
    assert said.code == 0, said
    assert "pass seeds: 1 ok + 3 failed = 4 images" in said.out
    assert table(folder, "seeds").index.tolist() == ["chelsea"]
    assert set(table(folder, "seeds", "failures")["reason"]) == {"skipped"}


def test_an_empty_source_stops_at_once_and_may_be_corrected(tmp_path: Path) -> None:
    words = ["run", QUICKSTART, *SMALL, "data.source=folder", f"output={tmp_path / 'run'}"]
    (tmp_path / "empty").mkdir()
    for _ in range(2):
        refused = one_sentence(command(*words, f"data.root={tmp_path / 'empty'}"))
        assert all(word in refused for word in ("'folder'", str(tmp_path / "empty"), "data.root"))
    refused = one_sentence(command(*words, f"data.root={tmp_path / 'emty'}"))
    assert refused.startswith("data.root: ")
    assert refused.endswith(str(tmp_path / "emty"))


def test_a_missing_weight_file_stops_before_any_work(corpus_with_bad_inputs: Corpus, tmp_path: Path) -> None:
    missing = tmp_path / "nowhere.safetensors"
    words = ["run", QUICKSTART, *SMALL, *corpus_with_bad_inputs.overrides, f"output={tmp_path / 'run'}"]
    refused = one_sentence(command(*words, "deeplab.source=weights", f"deeplab.weights={missing}"))
    assert "deeplab.weights" in refused
    assert str(missing) in refused
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_failed_images_are_taken_up_again(local_ray: None, tmp_path: Path) -> None:
    root = write_photographs(tmp_path / "photographs", ["chelsea.png", "coffee.png"])
    whole = (root / "coffee.png").read_bytes()
    (root / "coffee.png").write_bytes(whole[:100])
    labels = write_label_table(tmp_path / "labels.csv", {"chelsea": "cat", "coffee": "cup"})
    words = [QUICKSTART, *SMALL, f"output={tmp_path / 'run'}", "passes=[seeds]", "data.source=folder"]
    words += [f"data.root={root}", f"data.labels={labels}"]
    first = command("run", *words)
    assert "pass seeds: 1 ok + 1 failed = 2 images" in first.out, first
    chelsea = table(tmp_path / "run", "seeds").loc["chelsea"].drop(["label_file", "label_offset"])
    affinity_label = label_files(tmp_path / "run", "affinity_label")["chelsea"]

    failures = table(tmp_path / "run", "seeds", "failures")
    assert failures.loc["coffee", ["reason", "attempt"]].tolist() == ["unreadable", 1]

    (root / "coffee.png").write_bytes(whole)
    mended = command("run", *words, "--retry-failed")
    assert "pass seeds: 2 ok + 0 failed = 2 images" in mended.out, mended
    assert not list((tmp_path / "run" / "seeds" / "failures").iterdir())
    rows = table(tmp_path / "run", "seeds")
    assert list(rows.index) == ["chelsea", "coffee"]
    pd.testing.assert_series_equal(rows.loc["chelsea"].drop(["label_file", "label_offset"]), chelsea)
    assert label_files(tmp_path / "run", "affinity_label")["chelsea"] == affinity_label
    assert "Nothing to do" in command("run", *words, "--retry-failed").out
