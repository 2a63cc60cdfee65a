"""One run at a time in a run directory: who works there says so, and again every few seconds."""

import json
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pfit_ray import storage
from pfit_ray.errors import RunFailedError, UserError
from pfit_ray.rundir.directory import LOCK_FILE, RunDirectory
from pfit_ray.rundir.pace import describe_duration

BEAT = 15.0
"""Seconds between two signs of life."""
STALE = 120.0
"""A run without a sign of life for so long is gone, or has lost its storage."""
SETTLE = 1.0
"""Seconds after a takeover until the run checks whether another one took over at the same moment."""
PATIENCE = 5.0
"""Seconds to wait for a slow storage at the end."""

_held: set[str] = set()
"""The locks of this process."""


class RunLock:
    """The right to work in a run directory.

    Args:
        run: the run directory.
        say: tells the user why the run waits.
        force: take the lock from whoever holds it.
    """

    def __init__(self, run: RunDirectory, say: Callable[[str], None], force: bool = False) -> None:
        self.run = run
        self.say = say
        self.force = force
        self.contended = False
        """Whether another run held the lock: what was read before may be out of date."""
        self._lost: dict[str, Any] | None = None
        self._me: dict[str, Any] = {}

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock, and give signs of life meanwhile.

        A lock whose process is gone from this machine is taken over at once, one of another machine after `STALE`
        seconds without a sign.

        Raises:
            UserError: another run is working there.
            RunFailedError: another run has taken over meanwhile.
        """
        self._me = {
            "id": uuid.uuid4().hex, "host": socket.gethostname(), "pid": os.getpid(), "space": _process_space(),
            "started": _started(os.getpid()), "since": time.time(),
        }  # fmt: skip
        self._lost = None
        _held.add(self._me["id"])
        try:
            self._acquire()
        except BaseException:
            _held.discard(self._me["id"])
            raise
        over = threading.Event()
        in_main = threading.current_thread() is threading.main_thread()
        thread = threading.Thread(target=self._beat, args=(over, in_main), name="sign of life", daemon=True)
        thread.start()
        try:
            yield
        except KeyboardInterrupt:
            self.check()
            raise
        finally:
            over.set()
            thread.join(PATIENCE)
            _held.discard(self._me["id"])
            if self._lost is None:
                leave = threading.Thread(target=self._leave, daemon=True)
                leave.start()
                leave.join(PATIENCE)

    def check(self) -> None:
        """Raise a RunFailedError if another run has taken over; called between images and shards."""
        if self._lost is not None:
            raise RunFailedError(
                f"{self.run.root}: another run, {_who(self._lost)}, has taken over; this one stops, and what it has "
                "finished is kept"
            )

    @property
    def _url(self) -> str:
        return self.run.url(LOCK_FILE)

    def _acquire(self) -> None:
        while not storage.create_bytes(self._url, self._record()):
            found = self._read()
            if found is None:
                continue
            if found["id"] == self._me["id"]:  # an answer was lost, and the request sent again
                return
            self.contended = True
            if self.force or _is_gone(found) or self._falls_silent(found):
                storage.write_bytes(self._url, self._record())
                time.sleep(SETTLE)
                if (self._read() or self._me)["id"] == self._me["id"]:
                    return

    def _falls_silent(self, found: dict[str, Any]) -> bool:
        """Wait until a run gives no sign any more.

        Raises:
            UserError: when it gives one.
        """
        if _is_here(found):
            raise self._refusal(found)
        # Clocks of machines differ: whatever the last sign's time says, two more are waited for.
        silent = time.time() - found["at"]
        patience = max(STALE - silent, 2 * BEAT)
        self.say(
            f"{self.run.root} is held by {_who(found)}, whose last sign of life is "
            f"{describe_duration(max(0.0, silent))} old: waiting up to {describe_duration(patience)} to see whether it "
            "still works"
        )
        end = time.monotonic() + patience
        while time.monotonic() < end:
            time.sleep(min(1.0, BEAT / 2))
            now = self._read()
            if now is None:
                return False
            if (now["id"], now["at"]) != (found["id"], found["at"]):
                raise self._refusal(now)
        return True

    def _refusal(self, found: dict[str, Any]) -> UserError:
        return UserError(
            f"{self.run.root}: another run is working there, {_who(found)}; wait for it, stop it, or choose another "
            "output (--force takes over from a run that is certainly gone)"
        )

    def _beat(self, over: threading.Event, in_main: bool) -> None:
        while not over.wait(BEAT):
            with suppress(Exception):  # a storage that does not answer now may do so the next time
                found = self._read()
                if found is None or found["id"] == self._me["id"]:
                    storage.write_bytes(self._url, self._record())
                elif not over.is_set():
                    self._lost = found
                    if in_main and (heard := _heard_signal()):
                        os.kill(os.getpid(), heard)  # a training has no place to check in between
                    return

    def _leave(self) -> None:
        with suppress(Exception):  # the next run finds that this process is gone
            storage.remove(self._url)

    def _record(self) -> bytes:
        return (json.dumps({**self._me, "at": time.time()}, indent=1) + "\n").encode()

    def _read(self) -> dict[str, Any] | None:
        """What the lock says; one that is being written, or is damaged, is nobody's."""
        try:
            found = self.run.read_json(LOCK_FILE)
            return None if found is None else {**_NOBODY, **found}
        except (ValueError, TypeError):
            return dict(_NOBODY)


_NOBODY: dict[str, Any] = {
    "id": "", "host": "an unknown host", "pid": 0, "space": "", "started": "", "since": 0.0, "at": 0.0
}  # fmt: skip


def _process_space() -> str:
    """What tells machines and containers apart within which a process id means one process."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _is_here(found: dict[str, Any]) -> bool:
    """Whether a lock is of this machine, and of the same container if it is one."""
    return bool(found["host"] == socket.gethostname() and found["space"] == _process_space())


def _is_gone(found: dict[str, Any]) -> bool:
    """Whether the process of a lock is known to be gone."""
    if not _is_here(found):
        return False
    if found["pid"] == os.getpid():
        return found["id"] not in _held
    if found["started"]:
        return _started(found["pid"]) != found["started"]
    try:
        os.kill(found["pid"], 0)
    except OSError:
        return True
    return bool(time.time() - found["at"] > STALE)  # process ids are given again


def _started(pid: int) -> str:
    """When a process has started, in ticks; empty if there is none, or this system does not tell."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _heard_signal() -> signal.Signals | None:
    """The signal that ends this process in order: what a shell starts in the background may ignore SIGINT."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        return signal.SIGINT
    return signal.SIGTERM if callable(signal.getsignal(signal.SIGTERM)) else None


def _who(found: dict[str, Any]) -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found["since"]))
    return f"process {found['pid']} on {found['host']} since {since}"
