import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pfit_ray import storage
from pfit_ray.config.load import validate
from pfit_ray.errors import RunFailedError, UserError
from pfit_ray.rundir.directory import LOCK_FILE, RunDirectory
from pfit_ray.runner import lock
from pfit_ray.runner.lock import RunLock
from pfit_ray.runner.progress import Progress
from pfit_ray.runner.run import Runner
from pfit_ray.storage.signals import interrupts

ELSEWHERE = {"id": "other", "host": "far-away", "pid": 7, "space": "x", "started": "1", "since": 1e9}


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("BEAT", 0.1), ("STALE", 0.6), ("SETTLE", 0.05)):
        monkeypatch.setattr(lock, name, seconds)


@pytest.fixture(params=["local", "memory"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> RunDirectory:
    return RunDirectory(str(tmp_path / "run") if request.param == "local" else f"memory://{tmp_path.name}/run")


def write(run: RunDirectory, **record: Any) -> None:
    run.write_json({**ELSEWHERE, "at": time.time(), **record}, LOCK_FILE)


def here(**record: Any) -> dict[str, Any]:
    """A record of this machine."""
    return {"host": socket.gethostname(), "space": lock._process_space(), **record}


def test_the_place_is_taken_and_given_back(run: RunDirectory) -> None:
    with RunLock(run, print).held():
        found = run.read_json(LOCK_FILE)
        assert (found["host"], found["pid"]) == (socket.gethostname(), os.getpid())
        time.sleep(0.35)
        assert run.read_json(LOCK_FILE)["at"] > found["at"]
        assert run.read_json(LOCK_FILE)["id"] == found["id"]
    assert run.read_json(LOCK_FILE) is None


def test_a_second_run_is_refused_at_once_and_told_whose_the_place_is(run: RunDirectory) -> None:
    said: list[str] = []
    with RunLock(run, said.append).held():
        with (
            pytest.raises(UserError, match=rf"process {os.getpid()} on {socket.gethostname()} since .*--force"),
            RunLock(run, said.append).held(),
        ):
            pytest.fail("it got in")
        assert run.read_json(LOCK_FILE) is not None
    assert said == []
    with RunLock(run, said.append).held():
        pass


def test_of_many_who_begin_at_once_one_gets_in(run: RunDirectory) -> None:
    begin, inside, refused = threading.Barrier(8), [], []

    def work() -> None:
        begin.wait()
        try:
            with RunLock(run, print).held():
                inside.append(1)
                time.sleep(0.5)
        except UserError:
            refused.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(inside), len(refused)) == (1, 7)


def test_a_process_of_this_machine_that_is_gone_is_not_waited_for(run: RunDirectory) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for record in ({"pid": gone.pid, "started": "5"}, {"pid": os.getppid(), "started": "another process"}):
        write(run, **here(**record))
        said: list[str] = []
        taken = RunLock(run, said.append)
        with taken.held():
            assert run.read_json(LOCK_FILE)["pid"] == os.getpid()
        assert (said, taken.contended) == ([], True)


def test_a_process_of_this_machine_that_lives_is_never_taken_for_gone(run: RunDirectory) -> None:
    write(run, **here(pid=os.getppid(), started=lock._started(os.getppid()), at=0.0))
    with pytest.raises(UserError, match=f"process {os.getppid()}"), RunLock(run, print).held():
        pass


def test_another_machine_is_waited_for_until_it_is_silent(run: RunDirectory) -> None:
    write(run)
    said: list[str] = []
    began = time.monotonic()
    with RunLock(run, said.append).held():
        assert time.monotonic() - began > 0.5
    (line,) = said
    assert "is held by process 7 on far-away since " in line
    assert "waiting up to 1 s" in line


def test_clocks_of_other_machines_are_not_believed(run: RunDirectory) -> None:
    write(run, at=time.time() - 1e6)
    over = threading.Event()

    def live() -> None:
        while not over.wait(0.05):
            write(run, at=time.time() - 1e6)

    thread = threading.Thread(target=live)
    thread.start()
    try:
        with pytest.raises(UserError, match="process 7 on far-away"), RunLock(run, print).held():
            pass
    finally:
        over.set()
        thread.join()


def test_force_does_not_ask(run: RunDirectory) -> None:
    write(run)
    with RunLock(run, lambda text: pytest.fail(text), force=True).held():
        assert run.read_json(LOCK_FILE)["pid"] == os.getpid()


def test_a_lock_that_is_damaged_or_half_written_is_waited_for(run: RunDirectory) -> None:
    storage.write_bytes(run.url(LOCK_FILE), b"{")
    said: list[str] = []
    with RunLock(run, said.append).held():
        assert run.read_json(LOCK_FILE)["pid"] == os.getpid()
    assert "an unknown host" in said[0]


def train(run: RunDirectory) -> None:
    """Another run takes over, and nothing looks at the lock."""
    write(run)
    time.sleep(30)


def test_whoever_lost_the_place_stops_and_leaves_the_other_s_lock(run: RunDirectory) -> None:
    mine = RunLock(run, print)
    with pytest.raises(RunFailedError, match=r"process 7 on far-away since .* has taken over"), mine.held():
        train(run)
    with pytest.raises(RunFailedError, match="has taken over"):
        mine.check()
    assert run.read_json(LOCK_FILE)["id"] == "other"


def test_a_run_that_ignores_ctrl_c_stops_too(run: RunDirectory) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(RunFailedError, match="has taken over"), RunLock(run, print).held(), interrupts():
            train(run)
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_error_gives_the_place_back(run: RunDirectory) -> None:
    with pytest.raises(ZeroDivisionError), RunLock(run, print).held():
        raise ZeroDivisionError
    assert run.read_json(LOCK_FILE) is None


@pytest.fixture
def runner(tmp_path: Path) -> Callable[[bool], Runner]:
    """Makes a runner whose passes have begun elsewhere."""

    def make(force: bool) -> Runner:
        document = {
            "output": str(tmp_path / "run"),
            "passes": ["seeds"],
            "data": {"source": "samples", "classes": ["cat"]},
            "classifier": {
                "source": "zero_shot", "zero_shot": {"cat": [281]},
                "backbone": {"name": "efficientnet_lite0", "weights": "package"},
            },
        }  # fmt: skip
        return Runner(validate(document), Progress(Console(file=io.StringIO())), force=force)

    return make


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The lock of a process that works on this machine."""
    file = tmp_path / "run" / "lock.json"
    file.parent.mkdir()
    record = here(id="other", pid=os.getppid(), started=lock._started(os.getppid()), since=1e9, at=time.time())
    file.write_text(json.dumps(record))
    return file


def test_run_and_redo_are_refused_where_another_works(runner: Callable[[bool], Runner], other: Path) -> None:
    finished = other.parent / "seeds" / "rows" / "00000.parquet"
    finished.parent.mkdir(parents=True)
    finished.write_text("{}")
    for act in (lambda: runner(False).run(), lambda: runner(False).forget("data")):
        with pytest.raises(UserError, match=f"process {os.getppid()} on "):
            act()
    assert sorted(path.name for path in other.parent.iterdir()) == ["lock.json", "seeds"]
    finished.unlink()
    runner(True).forget("data")
    assert not other.exists()
    assert not finished.parent.parent.exists()


def test_a_lock_that_goes_while_it_is_looked_for_is_nobody_s(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "exists", lambda url: True)
    one = RunLock(run, print)
    with one.held():
        storage.remove(run.url(LOCK_FILE))
        time.sleep(0.35)
        one.check()
        assert run.read_json(LOCK_FILE)["pid"] == os.getpid()
