"""The command lines in docs/cluster.md, in README.md and in the heads of the files in cluster/ are valid."""

import shlex
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from support.cluster_commands import BLOCK, CLUSTER, HEADS, PAGES, check, commands, in_head, in_page, load_submit

from pfit_ray.errors import UserError


@pytest.fixture
def submit() -> ModuleType:
    return load_submit()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_commands_of_a_page(path: Path, submit: ModuleType) -> None:
    found = in_page(path)
    assert len(found) >= 3
    for words in found:
        check(words, submit)


@pytest.mark.parametrize("path", HEADS, ids=lambda path: path.name)
def test_commands_of_a_head(path: Path, submit: ModuleType) -> None:
    text = path.read_text()
    if path.name == "kuberay.yaml":
        check(shlex.split(list(yaml.safe_load_all(text))[1]["spec"]["entrypoint"]), submit)
    else:
        assert in_head(path)
    for words in in_head(path):
        check(words, submit)


def test_each_file_is_used_by_a_command_of_the_page() -> None:
    text = "\n".join(BLOCK.findall(PAGES[0].read_text()))
    for path in CLUSTER.iterdir():
        assert path.is_dir() or f"cluster/{path.name}" in text, path.name


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_blocks_are_valid_bash(path: Path) -> None:
    for block in BLOCK.findall(path.read_text()):
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)


@pytest.mark.parametrize(
    "line",
    [
        "ray up --yess cluster/aws.yaml",
        "ray up cluster/awz.yaml",
        "ray submit cluster/aws.yaml cluster/submit.py -- rum configs/corpus.yaml",
        "ray submit cluster/aws.yaml cluster/submit.py -- run configs/corpus.yaml data.clases=[a]",
        "ray submit cluster/aws.yaml cluster/submit.py -- run configs/corpus.yaml data.classes='[a, b]'",
        "ray job submit --adress x -- pfit-ray run configs/corpus.yaml",
        "ray job submit -- pfit-ray run configs/corpus.yaml --redoo seeds",
        "sbatch cluster/slurm.sbatch run configs/corpus.yaml shard_size=none",
    ],
)
def test_a_wrong_command_would_be_found(line: str, submit: ModuleType) -> None:
    (words,) = commands(line)
    with pytest.raises((AssertionError, UserError)):
        check(words, submit)
