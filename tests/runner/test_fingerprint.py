import os
from pathlib import Path
from typing import Any

import pytest

from pfit_ray import storage
from pfit_ray.config import RunConfig
from pfit_ray.config import run as run_config
from pfit_ray.config.data import DataConfig
from pfit_ray.config.load import validate
from pfit_ray.errors import UserError
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.runner.fingerprint import (
    REDO_FROM,
    STEP_FIELDS,
    STEP_FILES,
    begin_step,
    check_fresh,
    continued,
    forget,
    take_back,
)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(str(tmp_path))


def config(**fields: Any) -> RunConfig:
    return validate({"output": "run", "data": {"source": "samples"}, **fields})


def complaint(run: RunDirectory, now: RunConfig) -> str | None:
    try:
        check_fresh(run, now)
    except UserError as error:
        return str(error)
    return None


def test_a_new_run_and_the_same_run_are_fresh(run: RunDirectory) -> None:
    zero_shot = {"cat": [1], "cup": [2], "motorbike": [3], "rocket": [4]}
    same = config(
        cam={"scales": [1, 0.3]},
        data={"source": "samples", "predict": {"limit": 2}},
        classifier={"source": "zero_shot", "zero_shot": zero_shot},
    )
    assert complaint(run, same) is None
    for step in STEP_FIELDS:
        begin_step(run, same, step)
    assert complaint(run, same) is None


def test_the_sentence_names_the_field_both_values_and_what_to_do(run: RunDirectory) -> None:
    for step in STEP_FIELDS:
        begin_step(run, config(), step)
    assert complaint(run, config(walk={"beta": 5})) == (
        f"config: 'walk.beta' was 10.0 when labels was computed in {run.root} and is now 5.0; "
        "restore the old value, choose another output, or add --redo labels"
    )


@pytest.mark.parametrize(
    ("fields", "name", "redo"),
    [
        ({"data": {"source": "samples", "classes": ["cat", "dog"]}}, "data.classes", "data"),
        ({"data": {"source": "samples", "train": {"limit": 3}}}, "data.train.limit", "data"),
        ({"data": {"source": "samples", "sample": 0.5}}, "data.sample", "data"),
        ({"data": {"source": "samples", "sample_seed": 5}}, "data.sample_seed", "data"),
        ({"data": {"source": "samples", "shard": "1/2"}}, "data.shard", "data"),
        ({"data": {"source": "samples", "tar_ids": "path"}}, "data.tar_ids", "data"),
        ({"shard_size": 3}, "shard_size", "data"),
        ({"data": {"source": "samples", "classifier": {"limit": 3}}}, "data.classifier.split", "classifier"),
        ({"seed": 1}, "seed", "classifier"),
        ({"classifier": {"train": {"epochs": 2}}}, "classifier.train.epochs", "classifier"),
        ({"classifier": {"source": "weights", "weights": "a"}}, "classifier.source", "classifier"),
        ({"fidelity": "reference"}, "fidelity", "seeds"),
        ({"crf_engine": "pydensecrf"}, "crf_engine", "seeds"),
        ({"network_engine": "torch"}, "network_engine", "seeds"),
        ({"images": {"max_pixels": 10}}, "images.max_pixels", "seeds"),
        ({"cam": {"scales": [1.0]}}, "cam.scales", "seeds"),
        ({"regions": {"uss": {"seed": 1}}}, "regions.uss.seed", "seeds"),
        ({"regions": {"sources": ["slic"]}}, "regions.sources", "seeds"),
        ({"cam": {"source": "external", "options": {"url": "a"}}}, "cam.source", "seeds"),
        ({"combine": {"mode": "pool"}}, "combine.mode", "seeds"),
        ({"affinity_label": {"fg_threshold": 0.5}}, "affinity_label.fg_threshold", "seeds"),
        ({"affinitynet": {"radius": 5}}, "affinitynet.radius", "affinitynet"),
        ({"pseudo_label": {"crf": {"iterations": 3}}}, "pseudo_label.crf.iterations", "labels"),
        ({"pseudo_label": {"pool": False}}, "pseudo_label.pool", "labels"),
        ({"deeplab": {"train": {"epochs": 2}}}, "deeplab.train.epochs", "deeplab"),
        ({"deeplab": {"train": {"review": "accepted"}}}, "deeplab.train.review", "deeplab"),
        ({"data": {"source": "samples", "predict": {"limit": 3}}}, "data.predict.limit", "predict"),
        ({"predict": {"flip": False}}, "predict.flip", "predict"),
    ],
)
def test_every_field_that_decides_a_result(run: RunDirectory, fields: dict, name: str, redo: str) -> None:
    for step in STEP_FIELDS:
        begin_step(run, config(), step)
    text = complaint(run, config(**fields)) or ""
    if name == "data.classifier.split":  # from null to a section: one of its fields
        name = "data.classifier."
    assert text.startswith(f"config: '{name}")
    assert text.endswith(f"add --redo {redo}")


@pytest.mark.parametrize(
    "fields",
    [
        {"resources": {"network": {"workers": 1}}},
        {"max_failed_fraction": 1.0},
        {"sheets": 0},
        {"evaluate": {"threshold_step": 0.1}},
        {"passes": ["seeds"]},
        {"output": "elsewhere"},
    ],
)
def test_fields_that_decide_no_result_may_change(run: RunDirectory, fields: dict) -> None:
    for step in STEP_FIELDS:
        begin_step(run, config(), step)
    assert complaint(run, config(**fields)) is None


def test_the_engine_that_null_stands_for_is_recorded(run: RunDirectory) -> None:
    begin_step(run, config(), "labels")
    recorded = run.read_json("steps", "labels.json")
    assert recorded["crf_engine"] == "native"
    run.write_json({name: value for name, value in recorded.items() if name != "crf_engine"}, "steps", "labels.json")
    assert "'crf_engine' was 'pydensecrf'" in (complaint(run, config()) or "")


def test_the_engine_of_the_networks_is_that_of_the_process_that_began(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_config.util, "find_spec", lambda name: None)
    begin_step(run, config(walk={"fidelity": "reference"}), "labels")
    begin_step(run, config(), "seeds")
    recorded = [run.read_json("steps", f"{step}.json")["network_engine"] for step in ("seeds", "labels")]
    assert recorded == ["channels_last", "torch"]
    monkeypatch.setattr(run_config.util, "find_spec", lambda name: name)
    now = config(walk={"fidelity": "reference"})
    assert (complaint(run, now) or "").startswith(
        "config: 'network_engine' was 'channels_last' when seeds was computed"
    )
    same = config(walk={"fidelity": "reference"}, network_engine="channels_last")
    assert continued(run, now) == same
    assert complaint(run, same) is None
    asked = config(network_engine="onnxruntime")
    assert continued(run, asked) == asked


def test_a_run_of_before_goes_on_with_its_engine(run: RunDirectory) -> None:
    assert continued(run, config()).network_engine is None
    begin_step(run, config(cam={"precision": "bfloat16"}), "seeds")
    begin_step(run, config(network_engine="torch"), "labels")
    strip(run, "labels", "network_engine")
    assert continued(run, config(cam={"precision": "bfloat16"})).network_engine == "torch"


def strip(run: RunDirectory, step: str, *names: str) -> None:
    """Make a step's record older: without some fields."""
    recorded = run.read_json("steps", f"{step}.json")
    run.write_json({name: value for name, value in recorded.items() if name not in names}, "steps", f"{step}.json")


def test_a_field_that_was_not_there_yet_stood_for_its_default(run: RunDirectory) -> None:
    begin_step(run, config(), "seeds")
    begin_step(run, config(), "deeplab")
    strip(run, "seeds", "combine.rounds", "cam.precision", "regions.uss.seed", "images.max_pixels")
    strip(run, "deeplab", "deeplab.train.epochs", "deeplab.train.drop_worst")
    assert complaint(run, config()) is None
    assert complaint(run, config(combine={"mode": "pool", "rounds": 2})) == (
        f"config: 'combine.mode' was 'fit' when seeds was computed in {run.root} and is now 'pool'; "
        "restore the old value, choose another output, or add --redo seeds"
    )
    assert "'regions.uss.seed' was 43" in (complaint(run, config(regions={"uss": {"seed": 1}})) or "")
    assert "'deeplab.train.epochs' was 50" in (complaint(run, config(deeplab={"train": {"epochs": 1}})) or "")


@pytest.mark.parametrize(
    ("step", "name", "value"),
    [
        ("labels", "pseudo_label.pool", False),
        ("seeds", "regions.uss.fused", False),
        ("seeds", "crf_engine", "pydensecrf"),
        ("predict", "network_engine", "torch"),
    ],
)
def test_a_field_whose_default_is_new_stood_for_what_was_computed_then(
    run: RunDirectory, step: str, name: str, value: Any
) -> None:
    *parents, leaf = name.split(".")
    fields: dict[str, Any] = {leaf: value}
    for part in reversed(parents):
        fields = {part: fields}
    begin_step(run, config(**fields), step)
    strip(run, step, name)
    assert complaint(run, config(**fields)) is None
    assert f"'{name}' was {value!r}" in (complaint(run, config()) or "")


def test_fields_that_region_sources_had_not_yet(run: RunDirectory) -> None:
    begin_step(run, config(), "seeds")
    recorded = run.read_json("steps", "seeds.json")
    recorded["regions.sources"] = [{"kind": source["kind"]} for source in recorded["regions.sources"]]
    run.write_json(recorded, "steps", "seeds.json")
    assert complaint(run, config()) is None
    assert "'regions.sources' was" in (complaint(run, config(regions={"sources": ["slic"]})) or "")


def test_a_field_that_this_version_does_not_have(run: RunDirectory) -> None:
    begin_step(run, config(), "labels")
    run.write_json({**run.read_json("steps", "labels.json"), "walk.wings": 2}, "steps", "labels.json")
    assert complaint(run, config()) == (
        f"config: 'walk.wings' was 2 when labels was computed in {run.root}, and this version of pfit_ray has no such "
        "field; use the version that computed it, choose another output, or add --redo labels"
    )


def test_entries_of_a_mapping_are_no_fields_of_another_version(run: RunDirectory) -> None:
    begin_step(run, config(predicted_labels={"class_thresholds": {"cat": 0.5}}), "seeds")
    text = complaint(run, config()) or ""
    assert "'predicted_labels.class_thresholds.cat' was 0.5" in text
    assert "is now None; restore the old value" in text


def test_a_secret_in_an_old_record_is_neither_compared_nor_told(run: RunDirectory) -> None:
    external = {"source": "external", "options": {"url": "https://host/cams"}}
    begin_step(run, config(cam=external), "seeds")
    recorded = run.read_json("steps", "seeds.json") | {"cam.options.api_key": "sesame"}
    run.write_json(recorded, "steps", "seeds.json")
    assert complaint(run, config(cam=external)) is None
    run.write_json(recorded | {"cam.options.url": "https://me:sesame@host/cams"}, "steps", "seeds.json")
    text = complaint(run, config(cam=external)) or ""
    assert "https://***@host/cams" in text
    assert "sesame" not in text


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """A folder with a label table, a table of images and a list."""
    lists = tmp_path / "a" / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for path in (*(tmp_path / name for name in ("labels.csv", "images.csv", "list.txt")), lists / "mine.txt"):
        path.write_text("one\n")
    return tmp_path


@pytest.mark.parametrize(
    ("data", "step", "field", "name"),
    [
        ({"source": "folder", "root": "a", "labels": "labels.csv"}, "manifest-train", "data.labels", "labels.csv"),
        ({"source": "table", "table": "images.csv"}, "manifest-train", "data.table", "images.csv"),
        ({"source": "voc", "root": "a", "train": {"split": "list.txt"}}, "manifest-train", "data.train.split",
         "list.txt"),
        ({"source": "voc", "root": "a", "score": "list.txt"}, "manifest-train", "data.score", "list.txt"),
        ({"source": "voc", "root": "a", "predict": {"split": "list.txt"}}, "manifest-predict", "data.predict.split",
         "list.txt"),
        ({"source": "voc", "root": "a", "train": {"split": "mine"}}, "manifest-train", "data.train.split",
         "a/ImageSets/Segmentation/mine.txt"),
        ({"source": "voc", "root": "a", "train": {"split": "train_aug"}, "sbd_lists": ["no.txt", "list.txt"]},
         "manifest-train", "data.sbd_lists", "list.txt"),
    ],
)  # fmt: skip
def test_a_table_that_was_edited_under_its_name(
    tables: Path, data: dict[str, Any], step: str, field: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tables)
    run, same = RunDirectory(str(tables / "run")), config(data={"classes": ["cat"], **data})
    begin_step(run, same, step)
    assert complaint(run, same) is None
    os.utime(tables / name, (1, 1))
    assert complaint(run, same) is None
    (tables / name).write_text("two\n")
    os.utime(tables / name, (2, 2))
    text = complaint(run, same) or ""
    assert text.startswith("config: ")
    assert f"{name} of '{field}' has changed since {step} was computed in {run.root}; restore" in text
    (tables / name).unlink()
    assert complaint(run, same) is None


def test_the_mode_and_thresholds_that_null_stands_for_may_be_spelled_out(run: RunDirectory) -> None:
    begin_step(run, config(), "seeds")
    spelled = {"combine": {"mode": "fit"}, "affinity_label": {"fg_threshold": 0.6, "bg_threshold": 0.4}}
    assert complaint(run, config(**spelled)) is None


def test_only_steps_that_were_begun_count(run: RunDirectory) -> None:
    begin_step(run, config(), "seeds")
    assert complaint(run, config(walk={"beta": 5}, predict={"flip": False})) is None
    assert "'cam.flip' was True" in (complaint(run, config(cam={"flip": False})) or "")


def test_the_recipe_of_a_network_that_is_not_trained_may_change(run: RunDirectory) -> None:
    given = {"source": "weights", "weights": "a.safetensors"}
    begin_step(run, config(classifier=given), "classifier")
    assert complaint(run, config(classifier={**given, "train": {"epochs": 2}, "puzzle": {"alpha": 1}})) is None
    assert "'classifier.weights' was 'a.safetensors'" in (
        complaint(run, config(classifier={**given, "weights": "b.safetensors"})) or ""
    )


@pytest.mark.parametrize(("before", "after"), [("train", "weights"), ("weights", "train")])
def test_another_source_of_a_network_is_named_first(run: RunDirectory, before: str, after: str) -> None:
    begin_step(run, config(classifier={"source": before, "weights": "a.safetensors"}), "classifier")
    text = complaint(run, config(classifier={"source": after, "weights": "a.safetensors"})) or ""
    assert text.startswith(f"config: 'classifier.source' was {before!r} when classifier was computed")


def test_pass_predict_alone_depends_on_the_images_it_takes_from_data_train(run: RunDirectory) -> None:
    begin_step(run, config(data={"source": "samples", "train": {"limit": 2}}), "manifest-predict")
    text = complaint(run, config(data={"source": "samples", "train": {"limit": 3}})) or ""
    assert text.startswith("config: 'data.train.limit' was 2 when manifest-predict was computed")
    assert text.endswith("add --redo predict")


def test_pass_predict_with_its_own_images_does_not(run: RunDirectory) -> None:
    own = {"source": "samples", "predict": {"limit": 2}}
    begin_step(run, config(data={**own, "train": {"limit": 2}}), "manifest-predict")
    assert complaint(run, config(data={**own, "train": {"limit": 3}})) is None


def test_a_step_that_left_nothing_can_be_taken_back(run: RunDirectory) -> None:
    begin_step(run, config(), "affinitynet")
    take_back(run, "affinitynet")
    assert left(run) == set()
    take_back(run, "affinitynet")


def test_a_step_that_left_something_cannot(run: RunDirectory) -> None:
    begin_step(run, config(), "affinitynet")
    storage.write_bytes(run.url("train", "affinitynet", "examples.parquet"), b"x")
    take_back(run, "affinitynet")
    assert "steps/affinitynet.json" in left(run)


FILES = {
    "manifest-train": ["manifest/train/00000.parquet", "manifest/train.json"],
    "manifest-classifier": ["manifest/classifier/00000.parquet", "manifest/classifier.json"],
    "classifier": ["train/classifier/examples.parquet", "checkpoints/classifier.safetensors"],
    "seeds": ["seeds/rows/00000.parquet", "seeds/done/00000.json"],
    "affinitynet": ["train/affinitynet/examples.parquet", "checkpoints/affinitynet.safetensors"],
    "labels": ["labels/rows/00000.parquet", "labels/done/00000.json"],
    "deeplab": ["train/deeplab/examples.parquet", "checkpoints/deeplab.safetensors"],
    "manifest-predict": ["manifest/predict/00000.parquet", "manifest/predict.json"],
    "predict": ["predict/rows/00000.parquet", "predict/done/00000.json"],
}


@pytest.fixture
def finished(run: RunDirectory) -> RunDirectory:
    """A run directory with files of every step."""
    for step, files in FILES.items():
        begin_step(run, config(), step)
        for name in files:
            storage.write_bytes(run.url(name), b"x")
    storage.write_bytes(run.url("config.yaml"), b"x")
    return run


def left(run: RunDirectory) -> set[str]:
    return {url[len(run.root) + 1 :] for url, _ in storage.list_files(run.root)}


@pytest.mark.parametrize(
    ("word", "stay"),
    [
        ("data", []),
        ("classifier", ["manifest-train"]),
        ("seeds", ["manifest-train", "manifest-classifier", "classifier"]),
        ("affinitynet", ["manifest-train", "manifest-classifier", "classifier", "seeds"]),
        ("labels", ["manifest-train", "manifest-classifier", "classifier", "seeds", "affinitynet"]),
        ("deeplab", ["manifest-train", "manifest-classifier", "classifier", "seeds", "affinitynet", "labels"]),
        (
            "predict",
            ["manifest-train", "manifest-classifier", "classifier", "seeds", "affinitynet", "labels", "deeplab"],
        ),
    ],
)
def test_forget_removes_a_step_and_all_that_follow(finished: RunDirectory, word: str, stay: list[str]) -> None:
    forget(finished, word)
    files = {name for step in stay for name in FILES[step]} | {f"steps/{step}.json" for step in stay}
    assert left(finished) == files | {"config.yaml"}


def test_every_field_of_the_data_decides_a_listing() -> None:
    decisive = {name for names in STEP_FIELDS.values() for name in names}
    assert {f"data.{name}" for name in DataConfig.model_fields} - decisive == set()


def test_every_word_and_every_step_is_known() -> None:
    assert list(STEP_FIELDS) == list(FILES)
    assert set(STEP_FIELDS) == set(STEP_FILES)
    assert set(REDO_FROM.values()) <= set(STEP_FIELDS)


def test_forgetting_where_nothing_is(run: RunDirectory) -> None:
    forget(run, "data")
    assert left(run) == set()


def test_an_interrupted_forget_leaves_no_result_without_what_it_came_from(
    finished: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = storage.remove, []

    def remove(url: str) -> None:
        if len(calls) == 4:
            raise KeyboardInterrupt
        calls.append(url)
        real(url)

    monkeypatch.setattr(storage, "remove", remove)
    with pytest.raises(KeyboardInterrupt):
        forget(finished, "seeds")
    assert "predict/done/00000.json" not in left(finished)
    assert "seeds/done/00000.json" in left(finished)
    assert "'cam.flip' was True" in (complaint(finished, config(cam={"flip": False})) or "")
