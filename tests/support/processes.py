"""Commands in processes of their own, which tests kill and interrupt."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from support.places import REPOSITORY

MARK = "PFIT_TEST_MARK"
HEEDS_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
"""What a shell starts in the background, tests for instance, ignores SIGINT, and so does what it starts."""


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
def driver_of(program: str, log: Path, words: Sequence[str] = ()) -> Iterator[subprocess.Popen]:
    """A Python program in a process of its own; at the end it is killed, and so is whatever it leaves behind.

    It finds the tests' modules as pytest does.
    """
    mark = uuid.uuid4().hex
    path = [str(REPOSITORY / "tests"), os.environ.get("PYTHONPATH")]
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", f"{HEEDS_CTRL_C}\n{program}", *words],
            env={**os.environ, MARK: mark, "PYTHONPATH": os.pathsep.join(filter(None, path))},
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


def driver(words: Sequence[str], log: Path) -> AbstractContextManager[subprocess.Popen]:
    """A command line in a process of its own; see `driver_of`."""
    return driver_of("from pfit_ray.cli.app import main; main()", log, words)
