"""What the documentation says of config fields, commands and files is true."""

import functools
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import REPOSITORY

from pfit_ray.config import RunConfig, load_config

DOCS = sorted((REPOSITORY / "docs").glob("*.md"))
VOC = REPOSITORY / "configs" / "voc2012.yaml"
RECIPE = {
    "classifier", "cam", "regions", "fit", "affinity_label", "affinitynet", "walk", "pseudo_label", "deeplab",
    "predict", "evaluate",
}  # fmt: skip
FIELD = re.compile(r"`([a-z0-9_]+(?:\.(?!(?:py|yaml|json)`)[a-z0-9_]+)*)(?:: ([^`]+))?`")
COMMAND = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
RUN_VOC = re.compile(r"^pfit-ray run configs/voc2012\.yaml(?:.*\\\n)*.*", re.MULTILINE)
LINK = re.compile(r"\]\((?!http)([^)#]+)\)")


def named_fields(text: str) -> dict[str, Any]:
    """Fields of a config section in backquotes, with the value behind the colon, if there is one."""
    found = [(name, value) for name, value in FIELD.findall(text) if name.partition(".")[0] in RunConfig.model_fields]
    return {name: yaml.safe_load(value) if value else None for name, value in found if "." in name or value}


def value_of(config: RunConfig, name: str) -> Any:
    value: Any = functools.reduce(getattr, name.split("."), config)
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.stem)
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


@pytest.mark.parametrize("path", [*DOCS, REPOSITORY / "README.md"], ids=lambda path: path.stem)
def test_links_lead_somewhere(path: Path) -> None:
    for target in LINK.findall(path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


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
