"""SIGTERM ends a run as Ctrl-C does: what is finished stays, and the user is told how to go on."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """A SIGTERM, as schedulers and `ray job stop` send it."""


@contextmanager
def sigterm_as_interrupt() -> Iterator[Callable[[], None]]:
    """Let a SIGTERM end the block by `Terminated`; in other threads than the main one, do nothing.

    What the handler raises does not always arrive: a call that waits inside Ray's core raises a new
    KeyboardInterrupt in its place, and what breaks because of it may raise anything.

    Yields:
        Sets the handler again; Ray replaces it whenever it is initialised.

    Raises:
        Terminated: when a SIGTERM came.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    came = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        came.set()
        raise Terminated

    def set_again() -> None:
        signal.signal(signal.SIGTERM, handle)

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield set_again
    except BaseException as stop:
        if came.is_set():
            raise Terminated from stop
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    if came.is_set():
        raise Terminated
