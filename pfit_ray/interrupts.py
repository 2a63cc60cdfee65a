"""SIGTERM ends a run as Ctrl-C does: what is finished stays, and the user is told how to go on."""

import signal
import threading
from types import FrameType


class Terminated(KeyboardInterrupt):
    """A SIGTERM, as schedulers and `ray job stop` send it."""


def terminate_as_interrupt() -> None:
    """Let a SIGTERM raise `Terminated` in the main thread; Ray replaces the handler whenever it is initialised."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _raise)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Terminated
