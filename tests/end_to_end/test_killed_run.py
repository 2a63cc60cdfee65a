"""Runs that are killed or interrupted in the middle end like an undisturbed one when they are started again."""

import json
import os
import signal
from pathlib import Path

import pytest
from conftest import SmallRun
from support.processes import driver, wait_for
from support.small_runs import assert_same_results

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_killed_and_run_again(small_run: SmallRun, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = [*small_run.words, f"output={run}", "resources.train.checkpoint_seconds=0"]

    def exists(pattern: str) -> bool:
        return any(run.glob(pattern))

    killed_when = {
        "the first shard of pass 1": "seeds/done/*.json",
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


@pytest.mark.parametrize(
    ("pattern", "sent", "code", "word"),
    [
        ("train/affinitynet/checkpoints/*/state.pt", "SIGINT", 130, "Interrupted"),
        ("seeds/done/*.json", "SIGTERM", 143, "Terminated"),
    ],
)
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
