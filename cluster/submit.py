"""What `ray submit` ships to the head of a cluster: the command line of pfit-ray, on all nodes of that cluster.

    ray submit cluster/aws.yaml cluster/submit.py -- run configs/corpus.yaml output=s3://bucket/run

Arguments are those of `pfit-ray`. Where the package is installed on the head (by the image, or by setup commands of the
cluster's file), it runs at once; all nodes must then have it. A package that is not there is named first:

    ray submit cluster/aws.yaml cluster/submit.py -- --install pfit_ray-0.1.0-py3-none-any.whl run ...

`--install` takes what `pip install` takes: a wheel on the head, its URL, or a requirement such as `pfit-ray==0.1.0`;
the variable PFIT_RAY_INSTALL on the head does the same where no package is installed. The command then becomes a job of
Ray, which installs it on every node that takes part, also on those that come later.

Exit codes are those of `pfit-ray`, and of a job 0 or 1; `ray submit` itself turns every failure into 1.
"""

import importlib.util
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

INSTALL = "--install"
VARIABLE = "PFIT_RAY_INSTALL"
NOT_FOUND = (
    "pfit_ray is not installed on this node; take an image that has it (cluster/Containerfile), or say what to install "
    f"by {INSTALL} WHEEL_OR_REQUIREMENT before the command or by the variable {VARIABLE}"
)


def main() -> None:
    """Run the command line here, or as a job that brings the package along."""
    os.environ.setdefault("RAY_ADDRESS", "auto")
    package, words = split(sys.argv[1:])
    if package is None and importlib.util.find_spec("pfit_ray") is None:
        sys.exit(NOT_FOUND)
    if package is not None:
        command = job(package, [absolute(word) for word in words])
        os.execvp(command[0], command)
    sys.argv[1:] = words
    from pfit_ray.cli.app import main as command_line

    command_line()


def split(words: list[str]) -> tuple[str | None, list[str]]:
    """What to install, and the words of the command."""
    if words[:1] == [INSTALL]:
        if len(words) < 2:
            sys.exit(f"{INSTALL}: a wheel or a requirement must follow")
        return words[1], words[2:]
    if importlib.util.find_spec("pfit_ray") is not None:
        return None, words
    return os.environ.get(VARIABLE) or None, words


def job(package: str, words: list[str]) -> list[str]:
    """The command that runs `pfit-ray` as a job of Ray with a package that is installed on every node."""
    file, bracket, extras = package.partition("[")
    options = []
    if Path(file).is_file():
        folder = tempfile.mkdtemp(prefix="pfit-ray-")  # Ray copies it to every node
        shutil.copy(file, folder)
        options = ["--working-dir", folder]
        package = f"${{RAY_RUNTIME_ENV_CREATE_WORKING_DIR}}/{Path(file).name}{bracket}{extras}"
    environment = json.dumps({"pip": [package]})
    return ["ray", "job", "submit", "--runtime-env-json", environment, *options, "--", "pfit-ray", *words]


def absolute(word: str) -> str:
    """A file's name for a job, which runs in another folder."""
    return os.path.abspath(word) if os.path.isfile(word) else word


if __name__ == "__main__":
    main()
