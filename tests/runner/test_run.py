import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import SmallRun
from PIL import Image
from rich.console import Console
from support.sentences import facts
from support.shards import fixed, mark
from support.small_runs import mtimes

from pfit_ray import storage
from pfit_ray.config import load_config
from pfit_ray.config.load import validate
from pfit_ray.data.sources.notes import Notes
from pfit_ray.errors import RunFailedError, UserError
from pfit_ray.nets.classifier import CamClassifier
from pfit_ray.nets.weights import save_network
from pfit_ray.runner import run as run_module
from pfit_ray.runner.progress import Progress
from pfit_ray.runner.run import Runner
from pfit_ray.runner.steps import Step, networks_of

ZERO_SHOT = {"cat": [281], "cup": [504], "motorbike": [665], "rocket": [657]}
LITE = {"name": "efficientnet_lite0", "weights": "package"}
MakeRunner = Callable[..., Runner]


def quiet() -> Progress:
    return Progress(Console(file=io.StringIO()))


@pytest.fixture
def make_runner(tmp_path: Path) -> MakeRunner:
    """A run on the sample photographs; arguments are top-level fields."""

    def make(**fields: Any) -> Runner:
        document: dict[str, Any] = {
            "output": str(tmp_path / "run"),
            "data": {"source": "samples"},
            "classifier": {"source": "zero_shot", "zero_shot": ZERO_SHOT, "backbone": LITE},
            "affinitynet": {"backbone": LITE},
            "deeplab": {"backbone": LITE},
        }
        return Runner(validate({**document, **fields}), quiet())

    return make


def names(steps: list[Step]) -> list[str]:
    return [f"{step.kind} {step.name}" for step in steps]


def test_steps_of_a_whole_run(make_runner: MakeRunner) -> None:
    steps = make_runner().planner.steps()
    assert names(steps) == [
        "manifest train",
        "network classifier",
        "pass seeds",
        "network affinitynet",
        "pass labels",
        "manifest predict",
        "network deeplab",
        "pass predict",
        "report evaluation",
    ]
    assert all(step.todo for step in steps)
    assert networks_of(steps) == ["classifier", "affinitynet", "deeplab"]


@pytest.mark.parametrize(
    ("redo", "deeplab", "text"),
    [
        ("labels", {"train": {"review": "accepted"}}, "deeplab.train.review is 'accepted', .* has no marks"),
        ("deeplab", {"source": "weights", "weights": "nowhere.pth"}, "nowhere.pth"),
    ],
)
def test_nothing_is_forgotten_that_a_mistake_would_keep_from_returning(
    make_runner: MakeRunner, tmp_path: Path, redo: str, deeplab: dict[str, Any], text: str
) -> None:
    trained = tmp_path / "run" / "checkpoints" / "deeplab.safetensors"
    trained.parent.mkdir(parents=True)
    trained.touch()
    with pytest.raises(UserError, match=text):
        make_runner(deeplab={"backbone": LITE, **deeplab}).forget(redo)
    assert trained.exists()
    make_runner().forget("predict")
    assert trained.exists()
    make_runner().forget(redo)
    assert not trained.exists()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"passes": ["seeds"]}, ["manifest train", "network classifier", "pass seeds", "report evaluation"]),
        (
            {"passes": ["seeds"], "data": {"source": "samples", "classifier": {"limit": 2}}, "classifier": {}},
            ["manifest classifier", "manifest train", "network classifier", "pass seeds", "report evaluation"],
        ),
        (
            {"passes": ["seeds"], "data": {"source": "samples", "classifier": {"limit": 2}}},
            ["manifest train", "network classifier", "pass seeds", "report evaluation"],  # nothing to train
        ),
        (
            {"passes": ["predict"], "deeplab": {"source": "weights", "weights": "some.pth"}},
            ["manifest predict", "network deeplab", "pass predict", "report evaluation"],
        ),
    ],
)
def test_steps_of_a_part(make_runner: MakeRunner, fields: dict, expected: list[str]) -> None:
    assert names(make_runner(**fields).planner.steps()) == expected


@pytest.mark.parametrize(("passes", "missing"), [(["labels"], "seeds"), (["predict"], "labels")])
def test_a_pass_without_what_it_needs(make_runner: MakeRunner, passes: list[str], missing: str) -> None:
    runner = make_runner(passes=passes)
    with pytest.raises(UserError) as caught:
        runner.run()
    assert str(caught.value).startswith(f"pass {passes[0]} needs the results of pass {missing}, ")
    assert not Path(runner.run_directory.root).exists()


@pytest.mark.timeout(900)
def test_a_pass_whose_predecessor_is_unfinished(small_run: SmallRun, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(small_run.folder, folder)
    (folder / "seeds" / "done" / "00002.json").unlink()
    runner = Runner(load_config(str(folder / "config.yaml"), [f"output={folder}", "passes=[labels]"]), quiet())
    with pytest.raises(UserError, match=r"does not have \(1 of 5 shards to do\); add seeds to passes"):
        runner.planner.steps()


@pytest.mark.timeout(900)
def test_what_is_forgotten_is_not_counted_any_more(small_run: SmallRun, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(small_run.folder, folder)
    runner = Runner(load_config(str(folder / "config.yaml"), [f"output={folder}"]), quiet())
    before = {name: runner.ledger.counts(name) for name in ("seeds", "predict")}
    assert before["predict"] == (6, 3)
    runner.forget("predict")
    assert {name: runner.ledger.counts(name) for name in before} == {**before, "predict": (0, 0)}
    assert {step.name: step.todo for step in runner.planner.steps() if step.kind == "pass"} == {
        "seeds": "",
        "labels": "",
        "predict": "all images",
    }


def test_only_images_of_the_scored_list_have_masks(tmp_path: Path) -> None:
    root = tmp_path / "VOC2012"
    lists = {"train": ["a", "b"], "train_aug": ["a", "b", "c"], "val": ["d"]}
    for name in "abcd":
        for folder, suffix in (("JPEGImages", "jpg"), ("SegmentationClass", "png")):
            path = root / folder / f"{name}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (4, 4)).save(path)
    for name, images in lists.items():
        storage.write_bytes(str(root / "ImageSets" / "Segmentation" / f"{name}.txt"), "\n".join(images).encode())
    data = {
        "source": "voc",
        "root": str(root),
        "train": {"split": "train_aug"},
        "predict": {"split": "val"},
        "score": "train",
    }
    runner = Runner(validate({"output": str(tmp_path / "run"), "data": data}), quiet())
    assert [(item.image_id, item.mask_uri is not None) for item in runner.images("train", Notes())] == [
        ("a", True),
        ("b", True),
        ("c", False),
    ]
    assert [(item.image_id, item.mask_uri is not None) for item in runner.images("predict", Notes())] == [("d", True)]


def weights(path: Path, n_classes: int) -> dict[str, Any]:
    path.write_bytes(save_network(CamClassifier("efficientnet_lite0", n_classes), {}))
    return {"source": "weights", "weights": str(path), "backbone": LITE}


def test_weights_that_do_not_fit_stop_before_any_work_and_may_be_corrected(
    make_runner: MakeRunner, tmp_path: Path
) -> None:
    for n_classes in (3, 5):
        section = weights(tmp_path / f"{n_classes}.safetensors", n_classes)
        with pytest.raises(UserError, match=f"the file is for {n_classes} classes, but the run has 4"):
            make_runner(classifier=section).run()
    assert mtimes(tmp_path / "run") == {}


@pytest.mark.parametrize(
    ("resources", "sentence"),
    [
        ({"network": {"cpus": 2}}, r"resources\.network\.cpus 2 and resources\.cpu\.cpus 1 do not fit together"),
        (
            {"train": {"gpus_per_worker": 1}},
            r"resources\.train\.workers: 1 worker\(s\) of 1 CPUs and 1 GPUs do not fit",
        ),
    ],
)
def test_what_the_cluster_cannot_hold_stops_before_any_pass(
    make_runner: MakeRunner, local_ray: None, tmp_path: Path, resources: dict, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        make_runner(resources=resources).run()
    assert not (tmp_path / "run" / "seeds").exists()


@pytest.mark.timeout(900)
def test_a_finished_run_has_nothing_to_do(small_run: SmallRun) -> None:
    before = mtimes(small_run.folder)
    runner = Runner(load_config(str(small_run.folder / "config.yaml")), quiet())
    assert not any(step.todo for step in runner.planner.steps())
    outcome = runner.run()
    assert not outcome.worked
    assert outcome.counts == {"seeds": (4, 5), "labels": (4, 5), "predict": (6, 3)}
    assert outcome.metrics["pseudo_label"]["images"] == 2
    assert mtimes(small_run.folder) == before


@pytest.mark.timeout(900)
def test_a_run_does_not_go_on_after_a_pass_with_too_many_failures(small_run: SmallRun, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(small_run.folder, folder)
    (folder / "checkpoints" / "affinitynet.safetensors").unlink()
    before = mtimes(folder)
    overrides = [f"output={folder}", "max_failed_fraction=0.5"]
    runner = Runner(load_config(str(folder / "config.yaml"), overrides), quiet())
    with pytest.raises(RunFailedError) as caught:
        runner.run()
    assert facts(caught.value) == ["5", "9", "0.5", f"{folder}/seeds/failures", "--redo"]
    assert mtimes(folder) == before


@pytest.mark.parametrize("broken", ["write_report", "write_sheets"])
def test_looks_that_cannot_be_drawn_do_not_end_a_run(
    make_runner: MakeRunner, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    runner, order = make_runner(passes=["seeds"], sheets=1), list[str]()
    told: list[str] = []
    monkeypatch.setattr(runner.progress, "say", told.append)
    monkeypatch.setattr(run_module, "record_missing_weights", lambda *words: None)
    monkeypatch.setattr(run_module.scoring_step, "evaluate_run", lambda *words: {"cam": {"miou": 0.5}})

    def look(name: str) -> Callable[..., list[str]]:
        def draw(*words: Any, **named: Any) -> list[str]:
            assert runner.run_directory.read_json("evaluation.json") == {"cam": {"miou": 0.5}}
            order.append(name)
            if name == broken:
                raise FileNotFoundError("rows are gone")
            return ["no contact sheet of a: torn"] if name == "write_sheets" else []

        return draw

    for name in ("write_report", "write_sheets"):
        monkeypatch.setattr(run_module, name, look(name))
    runner._do(Step("report", "evaluation", "to do"), None)  # type: ignore[arg-type]
    assert order == ["write_report", "write_sheets"]
    assert [line.startswith("warning: ") for line in told] == [True] * (2 if broken == "write_report" else 1)
    assert runner.run_directory.read_json("steps", "report.json") == runner.planner.report_fields()


def test_processors_of_several_kinds_are_told(make_runner: MakeRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    runner, told = make_runner(passes=["predict"]), list[str]()
    monkeypatch.setattr(runner.progress, "say", told.append)
    run = runner.run_directory
    run.write_json({"images": 3, "shards": 3}, "manifest", "predict.json")

    def work(plan: Any, config: Any, directory: Any, shards: list[int], *words: Any) -> Iterator[dict[str, Any]]:
        for shard in shards:
            one = {"shard": shard, "ok": 1, "failed": 0, "reasons": {}, "stages": {}, "processor": kinds[shard]}
            run.write_json(one, "predict", "done", f"{shard:05d}.json")
            for kind in ("rows", "labels"):
                storage.write_bytes(fixed(run, "predict", kind, shard), b"")
            yield {**one, "skipped": 0}

    monkeypatch.setattr(run_module.pipeline, "run_pass", work)
    kinds = ["x86_64 znver4 avx512f"] * 3
    runner._pass("predict", None)  # type: ignore[arg-type]
    assert not any("processors" in line for line in told)
    storage.remove(run.url("predict"))
    runner.ledger.clear()
    kinds[1] = "x86_64 haswell avx2"
    runner._pass("predict", None)  # type: ignore[arg-type]
    (warning,) = [line for line in told if "processors" in line]
    assert "x86_64 znver4 avx512f: 2 shards, x86_64 haswell avx2: 1 shards" in warning


def test_a_finished_shard_that_has_lost_its_files_is_done_again(
    make_runner: MakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = make_runner(passes=["predict"])
    run = runner.run_directory
    run.write_json({"images": 2, "shards": 2}, "manifest", "predict.json")
    mark(run, "predict", 0)
    done: list[int] = []

    def work(plan: Any, config: Any, directory: Any, shards: list[int], *words: Any) -> Iterator[dict[str, Any]]:
        for shard in shards:
            done.append(shard)
            mark(run, "predict", shard)
            for kind in ("rows", "labels"):
                storage.write_bytes(fixed(run, "predict", kind, shard), b"")
            yield {"shard": shard, "ok": 1, "failed": 0, "skipped": 0, "reasons": {}, "stages": {}}

    monkeypatch.setattr(run_module.pipeline, "run_pass", work)
    with pytest.raises(RunFailedError, match="the same command does them again"):
        runner._pass("predict", None)  # type: ignore[arg-type]
    runner.ledger.clear()
    runner._pass("predict", None)  # type: ignore[arg-type]
    assert done == [1, 0]
