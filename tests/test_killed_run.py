"""Runs that are killed or interrupted in the middle end like an undisturbed one when they are started again."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import SmallRun
from small_runs import assert_same_results

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

MARK = "PFIT_TEST_MARK"


def marked_processes(mark: str) -> Iterator[int]:
    """Processes that were started, at any remove, with this mark in their environment."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                variables = (folder / "environ").read_bytes()
            except OSError:
                continue
            if f"{MARK}={mark}".encode() in variables:
                yield int(folder.name)


def wait_for(condition: Callable[[], object], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


@contextmanager
def driver(words: list[str], log: Path) -> Iterator[subprocess.Popen]:
    """A command in a process of its own; whatever it leaves behind is killed at the end."""
    mark = uuid.uuid4().hex
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", "from pfit_ray.cli import main; main()", *words],
            env={**os.environ, MARK: mark},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        wait_for(lambda: not any(marked_processes(mark)), 20)
        for pid in list(marked_processes(mark)):
            os.kill(pid, signal.SIGKILL)


def test_killed_and_run_again(small_run: SmallRun, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = [*small_run.words, f"output={run}", "resources.train.checkpoint_seconds=0"]

    def exists(pattern: str) -> bool:
        return any(run.glob(pattern))

    killed_when = {
        "the first shard of pass 1": "seeds/done/*.json",
        "the first epoch of AffinityNet": "train/affinitynet/checkpoints/*/state.pt",
        "the first shard of pass 2": "labels/done/*.json",
        "the first epoch of DeepLabv3+": "train/deeplab/checkpoints/*/state.pt",
        "the first shard of pass 3": "predict/done/*.json",
    }
    for number, (moment, pattern) in enumerate(killed_when.items()):
        log = tmp_path / f"{number}.log"
        assert not exists(pattern), moment
        with driver(words, log) as process:
            assert wait_for(lambda: exists(pattern) or process.poll() is not None, 300), moment  # noqa: B023
            assert process.poll() is None, log.read_text()
    assert not (run / "evaluation.json").exists()
    log = tmp_path / "last.log"
    with driver(words, log) as process:
        assert process.wait(300) == 0, log.read_text()

    assert_same_results(small_run.folder, run)
    for network in ("classifier", "affinitynet", "deeplab"):
        name = f"checkpoints/{network}.safetensors"
        assert (run / name).read_bytes() == (small_run.folder / name).read_bytes()
    assert json.loads((run / "evaluation.json").read_text()) == json.loads(
        (small_run.folder / "evaluation.json").read_text()
    )
    for sheet in (small_run.folder / "sheets").iterdir():
        assert (run / "sheets" / sheet.name).read_bytes() == sheet.read_bytes()
    assert not list(run.rglob(".*.pfit-part"))


@pytest.mark.parametrize("pattern", ["seeds/done/*.json", "train/affinitynet/checkpoints/*/state.pt"])
@pytest.mark.parametrize(("sent", "code", "word"), [("SIGINT", 130, "Interrupted"), ("SIGTERM", 143, "Terminated")])
def test_interrupted(small_run: SmallRun, tmp_path: Path, pattern: str, sent: str, code: int, word: str) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    words = [*small_run.words, f"output={run}", "resources.train.checkpoint_seconds=0", "passes=[seeds, labels]"]
    with driver(words, log) as process:
        assert wait_for(lambda: any(run.glob(pattern)) or process.poll() is not None, 300)
        if sent == "SIGINT":
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        else:
            process.terminate()  # as a scheduler does
        assert process.wait(60) == code, log.read_text()
    lines = log.read_text().splitlines()
    assert f"{word}. Finished shards and epochs are kept: the same command goes on from there." in lines
    assert "Traceback" not in log.read_text()
