"""A run that is terminated, interrupted and killed, each in another step, ends like an undisturbed one."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SmallRun
from support.processes import driver, wait_for
from support.small_runs import assert_same_results

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ENDS: dict[str, tuple[str, Callable[[subprocess.Popen], None], int, str]] = {
    "as a scheduler ends it, after the first shard of pass 1": (
        "seeds/done/*.json",
        subprocess.Popen.terminate,
        143,
        "Terminated.",
    ),
    "as a terminal interrupts it, after the first epoch of a training": (
        "train/affinitynet/checkpoints/*/state.pt",
        lambda process: os.killpg(process.pid, signal.SIGINT),
        130,
        "Interrupted.",
    ),
    "killed, after the first shard of pass 3": ("predict/done/*.json", subprocess.Popen.kill, -signal.SIGKILL, ""),
}


def test_ended_again_and_again(finished_run: SmallRun, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = [*finished_run.words, f"output={run}", "resources.train.checkpoint_seconds=0"]
    for number, (moment, (pattern, end, code, said)) in enumerate(ENDS.items()):
        log = tmp_path / f"{number}.log"
        assert not any(run.glob(pattern)), moment
        with driver(words, log) as process:
            assert wait_for(lambda: any(run.glob(pattern)) or process.poll() is not None, 300), moment  # noqa: B023
            assert process.poll() is None, log.read_text()
            end(process)
            assert process.wait(60) == code, log.read_text()
        lines = log.read_text().splitlines()
        assert not said or any(line.startswith(said) for line in lines)
        assert "Traceback" not in log.read_text()
    assert not (run / "evaluation.json").exists()
    log = tmp_path / "last.log"
    with driver(words, log) as process:
        assert process.wait(300) == 0, log.read_text()

    assert_same_results(finished_run.folder, run)
    for network in ("classifier", "affinitynet", "deeplab"):
        name = f"checkpoints/{network}.safetensors"
        assert (run / name).read_bytes() == (finished_run.folder / name).read_bytes()
    assert json.loads((run / "evaluation.json").read_text()) == json.loads(
        (finished_run.folder / "evaluation.json").read_text()
    )
    for sheet in (finished_run.folder / "sheets").iterdir():
        assert (run / "sheets" / sheet.name).read_bytes() == sheet.read_bytes()
    assert not list(run.rglob(".*.pfit-part"))
