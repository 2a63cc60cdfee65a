"""Reads Markdown pages: links and anchors, code blocks, overrides and commands."""

import re
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic import BaseModel, TypeAdapter
from support.cluster_commands import BLOCK, commands
from support.places import REPOSITORY

from pfit_ray.cli.app import app
from pfit_ray.config import RunConfig
from pfit_ray.config.load import section_of, validate

DOCS = sorted((REPOSITORY / "docs").rglob("*.md"))
PAGES = [*DOCS, REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", REPOSITORY / "CHANGELOG.md"]
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
PLACE = re.compile(r"(?<![\w/.-])((?:pfit_ray|tests|benchmarks|cluster|configs)/[\w/]*\w\.(?:py|yaml|json|sbatch))\b")
OVERRIDE = re.compile(r"([a-z_]+(?:\.[a-z0-9_]+)+|[a-z_]+)=(\S.*)")


def links(text: str) -> list[str]:
    """Targets of the relative links of a page; links in code are none."""
    found = LINK.findall(INLINE.sub("", FENCE.sub("", text)))
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchors(text: str) -> set[str]:
    """Anchors of a page's headings, as code hosts make them: no punctuation, small letters, `-` for each space."""
    found: set[str] = set()
    for heading in HEADING.findall(FENCE.sub("", text)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")
        number = sum(one == slug or re.fullmatch(rf"{re.escape(slug)}-\d+", one) is not None for one in found)
        found.add(f"{slug}-{number}" if number else slug)
    return found


def missing(page: Path, target: str) -> str | None:
    """What a link leads to and is not there; None for a good one."""
    file, _, anchor = target.partition("#")
    path = (page.parent / file).resolve() if file else page
    if not path.exists():
        return f"{page.name}: {target}: no such file"
    if anchor and anchor not in anchors(path.read_text(encoding="utf-8")):
        return f"{page.name}: {target}: no such heading"
    return None


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return [code for name, code in FENCE.findall(text) if name == language]


def shell_commands(text: str) -> list[list[str]]:
    """The words of each command of Ray, pfit-ray and Slurm in the shell blocks of a page."""
    return [words for block in BLOCK.findall(text) for words in commands(block.replace(" && ", "\n"))]


def named_commands(text: str) -> list[list[str]]:
    """The words of the pfit-ray commands that a page names in its text, with what stands for an argument."""
    found = INLINE.findall(FENCE.sub("", text))
    named = [one for one in found if re.match(r"(\S+=\S+ |\S+='[^']*' )*pfit-ray [a-z]", one)]
    return [shlex.split(one[one.index("pfit-ray") :].replace("[KEY=VALUE]...", "")) for one in named]


def check_options(words: list[str]) -> None:
    """Raise where a command or one of its options does not exist; arguments may be left out."""
    group: Any = typer.main.get_command(app)
    command = group.commands[words[1]]
    parser = command.make_parser(command.context_class(command, info_name=words[1]))
    try:
        parser.parse_args(words[2:])
    except Exception as error:
        raise AssertionError(f"{shlex.join(words)}: {error}") from error


def overrides(text: str) -> list[tuple[str, str]]:
    """Fields and values of the overrides that a page names in its text."""
    found = (OVERRIDE.fullmatch(one) for one in INLINE.findall(FENCE.sub("", text)))
    named = [match for match in found if match and match[1].partition(".")[0] in RunConfig.model_fields]
    return [(match[1], " ".join(shlex.split(match[2]))) for match in named]


def check_override(name: str, text: str) -> None:
    """Raise where a config has no such field, or the field does not take the value."""
    section: type[BaseModel] | None = RunConfig
    *parents, leaf = name.split(".")
    for part in parents:
        assert section is not None
        assert part in section.model_fields, f"{name}: there is no field {part}"
        section = section_of(section, part)
    assert section is not None
    assert leaf in section.model_fields, f"{name}: there is no field {leaf}"
    field = section.model_fields[leaf]
    TypeAdapter(Annotated[(field.annotation, *field.metadata, None)]).validate_python(yaml.safe_load(text))


def check_config(text: str) -> RunConfig:
    """Validate a YAML block: a whole config, or parts that are laid over configs/corpus.yaml."""
    given = yaml.safe_load(text)
    if "output" in given and "data" in given:
        return validate(given)
    return validate(_laid_over(yaml.safe_load((REPOSITORY / "configs" / "corpus.yaml").read_text()), given))


def _laid_over(below: Any, given: Any) -> Any:
    if not isinstance(below, dict) or not isinstance(given, dict):
        return given
    return {**below, **{name: _laid_over(below.get(name), value) for name, value in given.items()}}
