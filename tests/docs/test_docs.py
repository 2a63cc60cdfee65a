"""What the documentation says of config fields, commands and files is true."""

import functools
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import SmallRun
from pydantic import ValidationError
from support.cluster_commands import check, load_submit
from support.doc_pages import (
    DOCS,
    PAGES,
    PLACE,
    anchors,
    blocks,
    check_config,
    check_options,
    check_override,
    links,
    missing,
    named_commands,
    overrides,
    shell_commands,
)
from support.places import REPOSITORY

from pfit_ray.config import RunConfig, load_config
from pfit_ray.errors import UserError

VOC = REPOSITORY / "configs" / "voc2012.yaml"
RECIPE = {
    "classifier", "cam", "regions", "fit", "affinity_label", "affinitynet", "walk", "pseudo_label", "deeplab",
    "predict", "evaluate",
}  # fmt: skip
FIELD = re.compile(r"`([a-z0-9_]+(?:\.(?!(?:py|yaml|json)`)[a-z0-9_]+)*)(?:: ([^`]+))?`")
COMMAND = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
RUN_VOC = re.compile(r"^pfit-ray run configs/voc2012\.yaml(?:.*\\\n)*.*", re.MULTILINE)


def named_fields(text: str) -> dict[str, Any]:
    """Fields of a config section in backquotes, with the value behind the colon, if there is one."""
    found = [(name, value) for name, value in FIELD.findall(text) if name.partition(".")[0] in RunConfig.model_fields]
    return {name: yaml.safe_load(value) if value else None for name, value in found if "." in name or value}


def value_of(config: RunConfig, name: str) -> Any:
    value: Any = functools.reduce(getattr, name.split("."), config)
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("path", [path for path in DOCS if path.stem != "configuration"], ids=lambda path: path.stem)
def test_fields_exist(path: Path) -> None:
    config = load_config(str(VOC))
    for name in named_fields(path.read_text(encoding="utf-8")):
        value_of(config, name)


def test_values_of_the_published_recipe_are_those_of_its_config() -> None:
    said = {
        name: value
        for name, value in named_fields((REPOSITORY / "docs" / "voc2012.md").read_text()).items()
        if value is not None
    }
    config = load_config(str(VOC))
    assert said == {name: value_of(config, name) for name in said}
    assert len(said) > 80


def test_values_of_the_recipe_for_coco_are_those_of_its_config() -> None:
    config = load_config(str(REPOSITORY / "configs" / "coco2014.yaml"))
    said = (REPOSITORY / "docs" / "coco2014.md").read_text()
    for name in ("classifier.train.epochs", "deeplab.train.epochs", "cam.stored_as", "images.max_pixels"):
        cell = re.search(rf"^\| `{re.escape(name)}` \|[^|]*\| ([\w,]+)", said, re.MULTILINE)
        assert cell is not None, name
        assert cell[1].rstrip(",").replace(",", "") == str(value_of(config, name))


def test_fields_of_the_published_recipe_are_all_explained() -> None:
    """Every number of a stage or network in configs/voc2012.yaml stands in the documentation."""
    said = named_fields((REPOSITORY / "docs" / "voc2012.md").read_text())
    written = {name for name in leaves(yaml.safe_load(VOC.read_text())) if name.partition(".")[0] in RECIPE}
    assert written - set(said) == {"classifier.source"}


def leaves(document: dict[str, Any], prefix: str = "") -> list[str]:
    names = []
    for name, value in document.items():
        names += leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name]
    return names


@pytest.mark.parametrize("path", [*DOCS, REPOSITORY / "README.md"], ids=lambda path: path.stem)
def test_commands_on_voc_are_valid(path: Path) -> None:
    for block in COMMAND.findall(path.read_text(encoding="utf-8")):
        for command in RUN_VOC.findall(block):
            config, *overrides = words(command)[1:]
            load_config(str(REPOSITORY / config), overrides)


def words(command: str) -> list[str]:
    """The arguments of a command after bash has expanded it."""
    script = f"pfit-ray() {{ printf '%s\\0' \"$@\"; }}; {command}"
    return subprocess.run(["bash", "-c", script], check=True, capture_output=True, text=True).stdout.split("\0")[:-1]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_links_and_anchors_lead_somewhere(path: Path) -> None:
    assert [wrong for target in links(path.read_text(encoding="utf-8")) if (wrong := missing(path, target))] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_files_of_the_repository_exist(path: Path) -> None:
    named = set(PLACE.findall(path.read_text(encoding="utf-8")))
    assert {name for name in named if "NAME" not in name and not (REPOSITORY / name).is_file()} == set()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_commands_parse(path: Path) -> None:
    text, submit = path.read_text(encoding="utf-8"), load_submit()
    found = shell_commands(text)
    for words in found:
        check(words, submit)
    for words in named_commands(text):
        check_options(words)
    written = sum(len(re.findall(r"\bpfit-ray [a-z]", re.sub(" #.*", "", one))) for one in blocks(text, "bash"))
    assert sum("pfit-ray" in words for words in found) == written


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_overrides_and_yaml_blocks_are_valid(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name, value in overrides(text):
        check_override(name, value)
    for block in blocks(text, "yaml"):
        check_config(block)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_python_blocks_are_python(path: Path) -> None:
    for code in blocks(path.read_text(encoding="utf-8"), "python"):
        if ">>>" not in code:  # examples with results are run by tests of their pages
            compile(code, path.name, "exec")


def test_the_example_of_the_readme(small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = blocks((REPOSITORY / "README.md").read_text(encoding="utf-8"), "python")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "quickstart").symlink_to(small_run.folder)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["cam"].ndim == 3
    assert names["cam"].dtype == "float16"
    assert set(names["label"].ravel()) <= {0, 1, 2, 3, 4, 255}
    assert "unreadable" in set(names["failed"]["reason"])


def test_a_wrong_field_value_or_command_would_be_found() -> None:
    config = load_config(str(VOC))
    assert named_fields("`walk.beta: 3`, `walk.gamma`, `seed: 0`, `cam`, `no.field: 1`, `evaluate.py`") == {
        "walk.beta": 3, "walk.gamma": None, "seed": 0,
    }  # fmt: skip
    assert value_of(config, "walk.beta") == 10.0
    with pytest.raises(AttributeError):
        value_of(config, "walk.gamma")
    assert words(RUN_VOC.findall("x\npfit-ray run configs/voc2012.yaml {a,b}.c=1 \\\n  d='[2, 3]'\ny")[0]) == [
        "run", "configs/voc2012.yaml", "a.c=1", "b.c=1", "d=[2, 3]",
    ]  # fmt: skip


def test_a_wrong_link_would_be_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A B, c!\n## `x_y` & z\n## A B c\n[1](#a-b-c) [2](other.md) `[3](no.md)` [4](https://a.b) [5](#z)\n"
    )
    assert anchors(page.read_text()) == {"a-b-c", "x_y--z", "a-b-c-1"}
    found = links(page.read_text())
    assert found == ["#a-b-c", "other.md", "#z"]
    assert [missing(page, target) for target in found] == [
        None, "page.md: other.md: no such file", "page.md: #z: no such heading",
    ]  # fmt: skip


def test_a_wrong_command_override_or_block_would_be_found() -> None:
    text = "`pfit-ray show RUN X`, `A=b pfit-ray status RUN`, `pfit-ray` and `cam.flip=false`, `a.b=1`\n"
    assert named_commands(text) == [["pfit-ray", "show", "RUN", "X"], ["pfit-ray", "status", "RUN"]]
    assert overrides(text) == [("cam.flip", "false")]
    assert shell_commands("```bash\ncd x && pfit-ray plan c.yaml  # why\n```\n") == [["pfit-ray", "plan", "c.yaml"]]
    check_options(["pfit-ray", "run", "--retry-failed"])
    with pytest.raises(AssertionError, match="No such option"):
        check_options(["pfit-ray", "run", "--retry"])
    with pytest.raises(KeyError):
        check_options(["pfit-ray", "walk"])
    check_override("classifier.zero_shot", "{cat: [1]}")
    for name, value in (("cam.flop", "true"), ("kam.flip", "true"), ("walk.radius", "99"), ("passes", "[seed]")):
        with pytest.raises((AssertionError, ValidationError)):
            check_override(name, value)
    assert check_config("walk: {beta: 3}\n").walk.beta == 3
    with pytest.raises(UserError, match=r"did you mean 'walk.beta'"):
        check_config("walk: {betta: 3}\n")
