import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pfit_ray.config.load import validate
from pfit_ray.config.run import RunConfig
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.rundir.provenance import (
    describe,
    describe_versions,
    provenance,
    record_missing_weights,
    record_weights,
    weights_digests,
)
from pfit_ray.rundir.review import Marked, used_marks_url, write_marks

WEIGHTS = b"weights of a classifier"
PUBLISHED = b"the file that they were made from"


def config(folder: Path, **fields: Any) -> RunConfig:
    data = {"source": "voc", "root": "VOC2012", "train": {"split": "train_aug"}, "predict": {"split": "val"}}
    return validate({"output": str(folder / "run"), "data": data | fields.pop("data", {}), **fields})


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(str(tmp_path / "run"))
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "classifier.safetensors").write_bytes(WEIGHTS)
    (tmp_path / "given.pth").write_bytes(PUBLISHED)
    return run


def test_weights_are_recorded_with_the_file_that_they_came_from(tmp_path, run):
    given = str(tmp_path / "given.pth")
    record_weights(run, config(tmp_path, classifier={"source": "weights", "weights": given}), "classifier")
    assert run.read_json("checkpoints", "classifier.json") == {
        "sha256": hashlib.sha256(WEIGHTS).hexdigest(),
        "source": "weights",
        "from": given,
        "from_sha256": hashlib.sha256(PUBLISHED).hexdigest(),
    }
    assert weights_digests(run) == {"classifier": hashlib.sha256(WEIGHTS).hexdigest()}


def test_trained_weights_come_from_no_file(tmp_path, run):
    record_weights(run, config(tmp_path), "classifier")
    assert set(run.read_json("checkpoints", "classifier.json")) == {"sha256", "source"}


def test_marks_that_a_training_went_by_are_recorded(tmp_path, run):
    write_marks(used_marks_url(run, "classifier"), {"a": Marked("accept", datetime(2026, 3, 1, tzinfo=UTC))})
    used = (tmp_path / "run" / "train" / "classifier" / "marks.parquet").read_bytes()
    record_weights(run, config(tmp_path, classifier={"train": {"review": "accepted"}}), "classifier")
    assert run.read_json("checkpoints", "classifier.json") == {
        "sha256": hashlib.sha256(WEIGHTS).hexdigest(),
        "source": "train",
        "review": "accepted",
        "marks_sha256": hashlib.sha256(used).hexdigest(),
    }


def test_a_missing_record_is_made_up_for(tmp_path, run):
    for network in ("classifier", "deeplab"):
        record_missing_weights(run, config(tmp_path), network)
    assert weights_digests(run) == {"classifier": hashlib.sha256(WEIGHTS).hexdigest()}
    (tmp_path / "run" / "checkpoints" / "classifier.safetensors").write_bytes(b"others")
    record_missing_weights(run, config(tmp_path), "classifier")
    assert weights_digests(run) == {"classifier": hashlib.sha256(WEIGHTS).hexdigest()}


def test_every_scored_map_says_what_it_was_computed_with(tmp_path, run):
    chosen = config(
        tmp_path,
        data={"score": "train", "predict": {"split": "val", "limit": 12}},
        fidelity="reference",
        fit={"fidelity": "lossless"},
        walk={"beta": 8.0},
        pseudo_label={"threshold": 0.3, "crf": {"iterations": 2}},
    )
    record_weights(run, chosen, "classifier")
    found = provenance(chosen, run)
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    assert found["cam"] == {
        "split": "train (of train_aug)",
        "fidelity": {"cam": "reference"},
        "weights": {"classifier": digest},
        "scales": [0.5, 1.0, 1.5, 2.0],
    }
    pseudo = found["pseudo_label"]
    assert pseudo["fidelity"] == {"cam": "reference", "regions": "reference", "fit": "lossless", "walk": "reference"}
    assert (pseudo["threshold"], pseudo["crf"]["iterations"], pseudo["beta"]) == (0.3, 2, 8.0)
    assert pseudo["affinity_label"]["fg_threshold"] == 0.6
    assert found["prediction"]["split"] == "val, first 12"
    assert found["prediction"]["weights"] == {}
    assert describe("pseudo_label", pseudo) == (
        "pseudo_label: split train (of train_aug); fidelity cam reference, regions reference, fit lossless, walk "
        "reference; combine fit of slic, quickshift; "
        "walk from cam, beta 8, exp_times 8, radius 5; threshold 0.3; CRF t=2 (pydensecrf); "
        f"weights classifier {digest[:12]}"
    )
    assert "pooled within" not in describe("pseudo_label", pseudo)
    pooled = provenance(config(tmp_path), run)["pseudo_label"]
    assert "radius 5; pooled within slic, quickshift; threshold 0.35" in describe("pseudo_label", pooled)
    assert pseudo["affinity_label"]["crf"]["engine"] == "pydensecrf"
    assert "threshold: best on these images" in describe("cam", found["cam"])
    assert describe("prediction", found["prediction"]) == (
        "prediction: split val, first 12; fidelity reference; CRF t=10 (pydensecrf); weights not recorded"
    )


def test_scores_without_an_engine_are_of_the_only_one(tmp_path, run):
    entry = provenance(config(tmp_path), run)["prediction"]
    assert "CRF t=10 (native)" in describe("prediction", entry)
    del entry["crf"]["engine"]
    assert "CRF t=10 (pydensecrf)" in describe("prediction", entry)


def test_images_without_lists(tmp_path, run):
    folder = config(tmp_path, data={"source": "folder", "classes": ["cat"], "train": {}, "predict": None})
    found = provenance(folder, run)
    assert (found["cam"]["split"], found["prediction"]["split"]) == ("all images", "all images")


def test_versions():
    environment = {"packages": {"torch": "2.6.0", "pillow": "11.0", "zarr": "3"}, "jpeg_library": "3.0.1", "seed": 4}
    assert describe_versions(environment) == "versions: torch 2.6.0, pillow 11.0, JPEG library 3.0.1; seed 4"
    assert describe_versions(None) == "versions: not recorded"
