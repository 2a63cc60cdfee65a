import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import SmallRun
from oracles.published_keys import published_keys, random_state
from PIL import Image
from support.small_runs import QUICKSTART, command, one_sentence

from pfit_ray import __version__
from pfit_ray.config import load_config
from pfit_ray.config.load import resolved_yaml
from pfit_ray.runner.run import Runner

COMMANDS = (
    "run",
    "plan",
    "status",
    "evaluate",
    "export",
    "export-model",
    "serve",
    "show",
    "import-checkpoint",
    "classes",
    "init",
    "predict",
)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command(name: str) -> None:
    done = command(name, "--help")
    assert done.code == 0
    assert f"Usage: pfit-ray {name}" in done.out
    sentence = done.out.partition("[OPTIONS]")[2].partition("\n")[2]
    assert re.search(r"[A-Z][a-z]+ .*\.", sentence)
    assert done.err == ""


def test_help_names_every_command_and_the_steps_of_redo() -> None:
    done = command("--help")
    assert all(re.search(rf"^. {name} +[A-Z]", done.out, re.MULTILINE) for name in COMMANDS)
    text = " ".join(command("run", "--help").out.split())
    for word in ("classifier", "seeds", "affinitynet", "labels", "deeplab", "predict", "KEY=VALUE", "--address"):
        assert word in text


def test_version() -> None:
    assert command("--version") == (0, f"{__version__}\n", "")


def test_without_a_command_there_is_help() -> None:
    assert "Commands" in "".join(command()[1:])


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["rum", QUICKSTART], "No such command 'rum'. Did you mean 'run'?"),
        (["run", QUICKSTART, "--adress", "auto"], "No such option: --adress"),
        (["run"], "Missing argument"),
        (["show", "run"], "Missing argument"),
        (["import-checkpoint", "in.pth", "-o", "out.safetensors"], "Missing option '--network'"),
    ],
)
def test_typos_on_the_command_line(words: list[str], hint: str) -> None:
    done = command(*words)
    assert done.code == 2
    assert hint in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("name", ["run", "plan"])
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere.yaml"], "config: there is no file 'nowhere.yaml'"),
        ([QUICKSTART, "cam.flp=false"], "config: unknown key 'cam.flp' (did you mean 'cam.flip'?)"),
        ([QUICKSTART, "cam.flip"], "config: override 'cam.flip' must have the form key=value, such as cam.flip=false"),
        ([QUICKSTART, "walk.beta=-1"], "config: 'walk.beta' is -1; it should be greater than 0"),
        (
            [QUICKSTART, "data.classes=[cat]"],
            "config: classifier.zero_shot names class 'cup', which data.classes does not list",
        ),
        (
            [QUICKSTART, "data.source=folder"],
            "config: data: source 'folder' needs data.root, the folder or URL of the images",
        ),
    ],
)
def test_mistakes_in_the_config(name: str, words: list[str], sentence: str) -> None:
    assert one_sentence(command(name, *words)) == sentence


def test_redo_of_no_such_step(tmp_path: Path) -> None:
    assert one_sentence(command("run", QUICKSTART, f"output={tmp_path}", "--redo", "walk")) == (
        "--redo walk: no such step; choose from data, classifier, seeds, affinitynet, labels, deeplab, predict"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["status"], ["evaluate"], ["show", "cat"], ["export", "-o", "x", "--format", "voc"]])
@pytest.mark.parametrize("name", ["nowhere", "[bold]:cat:"])
def test_a_folder_that_is_no_run(tmp_path: Path, words: list[str], name: str) -> None:
    run = tmp_path / name
    assert one_sentence(command(words[0], str(run), *words[1:])) == (
        f"{run} is not a run directory: it has no config.yaml; give the output of a run"
    )


def test_a_mistake_in_a_process_of_its_own() -> None:
    script = Path(sys.executable).with_name("pfit-ray")
    done = subprocess.run([script, "run", "nowhere.yaml"], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "config: there is no file 'nowhere.yaml'\n")


def test_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Runner, "run", run)
    assert command("run", QUICKSTART, f"output={tmp_path}") == (
        130,
        "",
        "Interrupted. Finished shards and epochs are kept: the same command continues from there.\n",
    )


def test_plan_of_the_quickstart(tmp_path: Path) -> None:
    done = command("plan", QUICKSTART, f"output={tmp_path / 'run'}")
    assert done.code == 0
    assert "manifest train: list the images, 4 images (2.0 MB) in 4 shards\n" in done.out
    assert not (tmp_path / "run").exists()


def test_nothing_to_evaluate(local_ray: None, tmp_path: Path) -> None:
    config = load_config(QUICKSTART, [f"output={tmp_path}"])
    (tmp_path / "config.yaml").write_text(resolved_yaml(config))
    assert one_sentence(command("evaluate", str(tmp_path))) == (
        f"evaluate: no image of {tmp_path} has ground truth; set data.masks, or use source voc"
    )


@pytest.mark.timeout(900)
def test_evaluate_again(small_run: SmallRun, tmp_path: Path) -> None:
    shutil.copytree(small_run.folder, tmp_path / "run")
    (tmp_path / "run" / "evaluation.json").unlink()
    done = command("evaluate", str(tmp_path / "run"))
    assert done.code == 0, done
    found, before = (json.loads((run / "evaluation.json").read_text()) for run in (tmp_path / "run", small_run.folder))
    assert found == before
    assert "1 masks could not be used; the first: rocket: the mask has 112 x 74 pixels" in done.out
    percent = f"{before['pseudo_label']['miou'] * 100:.2f}"
    assert re.search(rf"pseudo_label .* 2 .* {percent} ", done.out)


@pytest.mark.timeout(900)
def test_status(small_run: SmallRun) -> None:
    done = command("status", str(small_run.folder))
    assert done.code == 0
    assert "affinitynet: ready\n" in done.out
    assert "pass labels: 9 of 9 images (4 ok, 5 failed), 5 of 5 shards" in done.out
    assert "  failed, upstream: 3\n" in done.out


@pytest.mark.timeout(900)
def test_show(small_run: SmallRun, tmp_path: Path) -> None:
    sheet = tmp_path / "cat.png"
    assert command("show", str(small_run.folder), "chelsea", "--output", str(sheet)) == (0, f"{sheet}\n", "")
    with Image.open(sheet) as image:
        assert image.format == "PNG"
    assert sheet.read_bytes() == (small_run.folder / "sheets" / "chelsea.png").read_bytes()
    assert one_sentence(command("show", str(small_run.folder), "dog")) == (
        f"show: {small_run.folder} has no image 'dog'; its manifest tables list the image ids"
    )


def test_import_of_a_published_checkpoint(tmp_path: Path) -> None:
    state = random_state(published_keys("classifier", "resnet50", n_classes=2))
    torch.save(state, tmp_path / "in.pth")
    words = ["import-checkpoint", str(tmp_path / "in.pth"), "--network", "classifier", "--backbone"]
    target = tmp_path / "out.safetensors"
    done = command(*words, "resnet50", "-o", str(target), "--classes", "cat, dog")
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    described = "classifier on resnet50, 23,512,128 parameters, 2 classes (cat ... dog)"
    assert done == (0, f"{target}: {described}, sha256 {digest}\n", "")
    assert one_sentence(command(*words, "resnest101", "-o", str(tmp_path / "other"))) == (
        f"{tmp_path / 'in.pth'}: the checkpoint holds a network on resnet50, not on resnest101"
    )
    assert not (tmp_path / "other").exists()
