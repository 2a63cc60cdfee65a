"""What cluster/submit.py makes of its arguments."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from ray.runtime_env import RuntimeEnv
from support.cluster_commands import load_submit
from support.places import REPOSITORY

from pfit_ray import __version__

SCRIPT = REPOSITORY / "cluster" / "submit.py"


@pytest.fixture
def submit(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load_submit()
    monkeypatch.delenv(module.VARIABLE, raising=False)
    return module


def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The script in a process of its own."""
    environment = {**os.environ, **variables}
    return subprocess.run(
        [sys.executable, SCRIPT, *words], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_an_installed_package_runs_here() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"{__version__}\n")


def test_exit_code_and_message_of_a_mistake() -> None:
    done = run("run", "nowhere.yaml")
    assert done.returncode == 2
    assert "nowhere.yaml" in done.stderr


def test_without_a_package_it_says_what_to_do() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", SCRIPT, "--version"], capture_output=True, text=True, timeout=60, check=False
    )  # without site-packages
    assert done.returncode == 1
    assert done.stderr.startswith("pfit_ray is not installed on this node; ")
    assert "Traceback" not in done.stderr


def test_install_without_a_name() -> None:
    done = run("--install")
    assert done.returncode == 1
    assert done.stderr == "--install: a wheel or a requirement must follow\n"


def test_split(submit: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    assert submit.split(["run", "a.yaml"]) == (None, ["run", "a.yaml"])
    assert submit.split(["--install", "x.whl", "run"]) == ("x.whl", ["run"])
    monkeypatch.setenv(submit.VARIABLE, "pfit-ray==1")
    assert submit.split(["run"]) == (None, ["run"])  # installed already
    monkeypatch.setattr(submit.importlib.util, "find_spec", lambda name: None)
    assert submit.split(["run"]) == ("pfit-ray==1", ["run"])


def options(command: list[str]) -> tuple[dict[str, str], list[str]]:
    """Options of `ray job submit`, and the job's own words."""
    end = command.index("--")
    assert command[:3] == ["ray", "job", "submit"]
    return dict(zip(command[3:end:2], command[4:end:2], strict=True)), command[end + 1 :]


def test_job_with_a_requirement(submit: ModuleType) -> None:
    found, words = options(submit.job("pfit-ray[s3]==0.1.0", ["run", "s3://bucket/a.yaml"]))
    assert found.keys() == {"--runtime-env-json"}
    assert RuntimeEnv(**json.loads(found["--runtime-env-json"])).pip_config()["packages"] == ["pfit-ray[s3]==0.1.0"]
    assert words == ["pfit-ray", "run", "s3://bucket/a.yaml"]


def test_job_with_a_wheel(submit: ModuleType, tmp_path: Path) -> None:
    wheel = tmp_path / "pfit_ray-9-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    (tmp_path / "secret").write_text("stays here")
    found, _ = options(submit.job(f"{wheel}[s3]", []))
    folder = Path(found["--working-dir"])
    assert [(file.name, file.read_bytes()) for file in folder.iterdir()] == [(wheel.name, b"wheel")]
    assert json.loads(found["--runtime-env-json"]) == {
        "pip": [f"${{RAY_RUNTIME_ENV_CREATE_WORKING_DIR}}/{wheel.name}[s3]"]
    }


def test_files_of_the_head_are_named_in_full(
    submit: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text("")
    assert [submit.absolute(word) for word in ("a.yaml", "b.yaml", "s3://b/a.yaml")] == [
        str(tmp_path / "a.yaml"),
        "b.yaml",
        "s3://b/a.yaml",
    ]
