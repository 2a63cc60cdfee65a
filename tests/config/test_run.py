from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Union, get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from pfit_ray.config import PASSES, RunConfig
from pfit_ray.config import run as module
from pfit_ray.config.load import validate
from pfit_ray.errors import UserError


def run(**fields: object) -> RunConfig:
    return RunConfig.model_validate({"output": "runs/mine", "data": {"source": "samples"}, **fields})


def sections_of(annotation: object) -> list[type[BaseModel]]:
    parts = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return [part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)]


def all_fields(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in section.model_fields.items():
        yield prefix + name, field
        for child in sections_of(field.annotation):
            yield from all_fields(child, f"{prefix}{name}.")


def test_every_field_says_what_it_does() -> None:
    fields = dict(all_fields(RunConfig))
    assert len(fields) > 150
    assert "regions.uss.min_labels" in fields
    assert "data.predict.limit" in fields
    silent = [name for name, field in fields.items() if not (field.description or "").strip()]
    assert silent == []


def test_every_default_is_valid_and_only_output_and_data_are_required() -> None:
    assert run().passes == PASSES == ("seeds", "labels", "predict")
    assert [name for name, field in RunConfig.model_fields.items() if field.is_required()] == ["output", "data"]


def test_a_run_given_in_part_keeps_the_numbers_of_its_networks() -> None:
    config = run(deeplab={"train": {"epochs": 2}}, pseudo_label={"crf": {"gt_prob": 0.8}})
    assert (config.deeplab.train.epochs, config.deeplab.train.learning_rate) == (2, 0.0007)
    assert config.pseudo_label.crf.iterations == 1
    assert config.affinitynet.train.bias_factor == 1.0


def test_fidelity_of_a_stage_is_its_own_or_that_of_the_run() -> None:
    config = run(fidelity="reference", walk={"fidelity": "lossless"})
    assert config.fidelity_of("walk") == "lossless"
    assert config.fidelity_of("cam") == "reference"
    assert run().fidelity_of("regions") == "lossless"


def test_the_type_of_stored_cams_follows_the_fidelity_unless_it_is_given() -> None:
    assert run().cam_stored_as == "float16"
    assert run(fidelity="reference").cam_stored_as == "float32"
    assert run(cam={"fidelity": "reference"}).cam_stored_as == "float32"
    assert run(fidelity="reference", cam={"fidelity": "lossless"}).cam_stored_as == "float16"
    assert run(fidelity="reference", cam={"stored_as": "float16"}).cam_stored_as == "float16"


def test_the_engine_of_the_crf_follows_the_fidelity_of_the_run() -> None:
    assert run().used_crf_engine == "native"
    assert run(fidelity="reference").used_crf_engine == "pydensecrf"
    assert run(fidelity="reference", crf_engine="native").used_crf_engine == "native"
    assert run(crf_engine="pydensecrf").used_crf_engine == "pydensecrf"
    assert run(predict={"fidelity": "reference"}).used_crf_engine == "native"


def test_the_engine_of_a_network_follows_its_fidelity_and_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"onnx", "onnxruntime"}
    monkeypatch.setattr(module.util, "find_spec", lambda name: name in there or None)
    assert [run().engine_of(name) for name in PASSES] == ["onnxruntime"] * 3
    mixed = run(cam={"precision": "bfloat16"}, walk={"fidelity": "reference"})
    assert [mixed.engine_of(name) for name in PASSES] == ["torch", "torch", "onnxruntime"]
    asked = run(fidelity="reference", network_engine="onnxruntime", predict={"fidelity": "lossless"})
    assert [asked.engine_of(name) for name in PASSES] == ["torch", "torch", "onnxruntime"]
    there.remove("onnx")
    assert [run().engine_of(name) for name in PASSES] == ["channels_last"] * 3
    assert [run(network_engine="torch").engine_of(name) for name in PASSES] == ["torch"] * 3


@pytest.mark.parametrize("source", ["folder", "tar", "parquet"])
def test_output_lies_outside_of_what_a_pattern_searches(source: str) -> None:
    data = {"source": source, "root": "s3://b/photos/**/*.x", "classes": ["cat"]}
    with pytest.raises(ValidationError, match=r"lies inside data.root 's3://b/photos/\*\*/\*.x'"):
        RunConfig.model_validate({"output": "s3://b/photos/run", "data": data})
    for root in ("s3://b/photos/*.x", "s3://b/photos/a/**"):
        assert RunConfig.model_validate({"output": "s3://b/photos/run", "data": {**data, "root": root}})


@pytest.mark.parametrize("output", ["photos", "photos/run", "photos/a/b"])
def test_output_lies_outside_of_the_images(output: str) -> None:
    data = {"root": "photos/", "classes": ["cat"]}
    with pytest.raises(ValidationError, match=r"lies inside data.root 'photos/'.*choose a place outside"):
        RunConfig.model_validate({"output": output, "data": data})
    assert RunConfig.model_validate({"output": "photos-run", "data": data}).output == "photos-run"


@pytest.mark.parametrize("way", ["file", "home", "link", "link_to_output"])
def test_output_inside_of_the_images_by_another_name(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos" / "run").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    (tmp_path / "out").symlink_to(tmp_path / "photos" / "run")
    monkeypatch.setenv("HOME", str(tmp_path))
    root, output = {
        "file": (str(tmp_path / "photos"), f"file://{tmp_path}/photos/run"),
        "home": ("~/photos", str(tmp_path / "photos" / "new")),
        "link": (str(tmp_path / "link"), str(tmp_path / "photos" / "run")),
        "link_to_output": (f"file://{tmp_path}/photos/*.jpg", str(tmp_path / "out")),
    }[way]
    source = {"root": root.replace("*.jpg", "**"), "classes": ["cat"]}
    with pytest.raises(ValidationError, match=r"lies inside data.root"):
        RunConfig.model_validate({"output": output, "data": source})
    assert RunConfig.model_validate({"output": str(tmp_path / "elsewhere"), "data": source})


@pytest.mark.parametrize(
    "fields",
    [
        {"cam": {"source": "own", "options": {"api_key": "sesame"}}},
        {"regions": {"sources": ["slic", {"kind": "own", "options": {"login": {"password": "sesame"}}}]}},
        {"cam": {"source": "own", "options": {"url": "https://sesame@host/"}}},
        {"cam": {"source": "own", "options": {"urls": ["https://host/?code=sesame"]}}},
        {"regions": {"sources": [{"kind": "own", "options": {"credentials": ["sesame"]}}]}},
    ],
)
def test_a_secret_is_refused_wherever_it_stands_and_not_repeated(fields: dict) -> None:
    with pytest.raises(UserError, match=r"environment variable") as caught:
        validate({"output": "runs/mine", "data": {"source": "samples"}, **fields})
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ({"cat": [281], "cup": [504], "motorbike": [665], "rocket": []}, "gives no ImageNet class for class 'rocket'"),
        ({"cat": [281], "dog": [151]}, "names class 'dog', which data.classes does not list"),
    ],
)
def test_zero_shot_sets_and_classes_belong_together(sets: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        run(classifier={"source": "zero_shot", "zero_shot": sets})


@pytest.mark.parametrize(
    "given",
    [{"passes": []}, {"passes": ["seed"]}, {"seed": -1}, {"seed": 2**31}, {"shard_size": 0},
     {"shard_size": 4097}, {"max_failed_fraction": 1.1}, {"sheets": -1}, {"fidelity": "exact"}],
)  # fmt: skip
def test_out_of_range(given: dict) -> None:
    with pytest.raises(ValidationError) as caught:
        run(**given)
    assert caught.value.errors()[0]["loc"][0] == next(iter(given))


def test_class_thresholds_are_those_of_known_classes() -> None:
    given = run(predicted_labels={"class_thresholds": {"cat": 0.25}}).predicted_labels
    assert given.class_thresholds == {"cat": 0.25}
    with pytest.raises(ValidationError, match=r"class_thresholds names class 'dog', which data\.classes does not list"):
        run(predicted_labels={"class_thresholds": {"dog": 0.25}})
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        run(predicted_labels={"class_thresholds": {"cat": 1.5}})
