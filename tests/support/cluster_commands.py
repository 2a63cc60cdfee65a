"""Finds the commands of Ray, pfit-ray and Slurm in a page or a file's head, and parses them without running them."""

import importlib.util
import re
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import typer
from ray.scripts.scripts import cli as ray_command
from support.places import REPOSITORY

from pfit_ray.cli.app import app
from pfit_ray.config import load_config

CLUSTER = REPOSITORY / "cluster"
PAGES = [REPOSITORY / "docs" / "cluster.md", REPOSITORY / "README.md"]
HEADS = sorted(path for path in CLUSTER.iterdir() if path.suffix in (".yaml", ".sbatch", ".py"))
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"^(?:# ) {2}(\S.*)$|^ {4}(ray submit .*)$", re.MULTILINE)
CHECKED = ("ray", "pfit-ray", "sbatch")


def commands(text: str) -> list[list[str]]:
    """The words of each command of Ray, pfit-ray and Slurm in a script."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        line = line.partition(" #")[0]
        words = line.split()
        while words and re.fullmatch(r"[A-Z_a-z0-9]+=\S*", words[0]):
            words.pop(0)
        if words[:1] and words[0] in CHECKED:
            split = expanded(line.partition(" >")[0])
            found.append(split[split.index(words[0]) :])
    return found


def expanded(line: str) -> list[str]:
    """The words of a line after bash has taken quotes and braces away."""
    if "&&" in line or ";" in line:
        raise ValueError(f"{line!r} holds several commands; give each its own line, for the second would be run")
    script = f"printf '%s\\0' {line}"
    return subprocess.run(["bash", "-fc", script], check=True, capture_output=True, text=True).stdout.split("\0")[:-1]


def in_page(path: Path) -> list[list[str]]:
    return [words for block in BLOCK.findall(path.read_text()) for words in commands(block)]


def in_head(path: Path) -> list[list[str]]:
    head = path.read_text().partition("\nset -")[0].partition("\nimport ")[0]
    return commands("\n".join("".join(match) for match in COMMENT.findall(head)))


def parsed(command: Any, words: list[str]) -> tuple[Any, Any]:
    """The command that some words name, with its parsed arguments; nothing is run. Typer has a click of its own."""
    while hasattr(command, "get_command"):
        group = command.context_class(command, info_name=words[0], resilient_parsing=True)
        inner = command.get_command(group, words[1])
        assert inner is not None, f"no command {words[1]}"
        command, words = inner, words[1:]
    try:
        return command, command.make_context(words[0], words[1:])
    except Exception as error:
        if hasattr(error, "format_message"):  # a ClickException of either click
            raise AssertionError(error.format_message()) from error
        raise


def check(words: list[str], submit: ModuleType) -> None:
    """Raise where a command would be refused."""
    if words[0] == "pfit-ray":
        check_own(words)
    elif words[0] == "sbatch":
        script = next(number for number, word in enumerate(words) if word.endswith(".sbatch"))
        assert (REPOSITORY / words[script]).is_file()
        check_own(["pfit-ray", *words[script + 1 :]])
    else:
        command, context = parsed(ray_command, words)
        file = context.params.get("cluster_config_file")
        assert file is None or (REPOSITORY / file).is_file(), file
        if command.name == "submit" and "script" in context.params:
            assert (REPOSITORY / context.params["script"]).is_file()
            arguments = context.params["script_args"]
            assert not any(" " in one for one in arguments), "ray submit hands words over without their quotes"
            check_own(["pfit-ray", *submit.split(list(arguments))[1]])
        elif command.name == "submit":
            check_own(list(context.params["entrypoint"]))


def check_own(words: list[str]) -> None:
    assert words[0] == "pfit-ray"
    if words[-1] == "...":  # the rest is left to the reader
        words = words[:-1]
    if words == ["pfit-ray", "run"]:
        return
    command, context = parsed(typer.main.get_command(app), words)
    if command.name == "run" and (REPOSITORY / context.params["config"]).is_file():
        overrides = context.params["overrides"] or []
        load_config(str(REPOSITORY / context.params["config"]), overrides)


def load_submit() -> ModuleType:
    """cluster/submit.py as a module."""
    spec = importlib.util.spec_from_file_location("submit", CLUSTER / "submit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
