"""Ctrl-C and SIGTERM end a run alike: what is finished stays, and the user is told how to go on."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """A SIGTERM, as schedulers and `ray job stop` send it."""


_RAISED = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}


class Interrupts:
    """Remembers the first signal that asks for the end, because what its handler raises does not always arrive.

    A call that waits inside Ray's core raises a new KeyboardInterrupt in its place, what breaks because of it may
    raise anything, and a destructor or callback that it happens to hit swallows it.
    """

    def __init__(self) -> None:
        self.came: signal.Signals | None = None

    def handle(self) -> None:
        """Set the handlers; again, because Ray replaces that of SIGTERM whenever it is initialised.

        In other threads than the main one, nothing is done; a SIGINT that this process was started to ignore, as in
        the background of a shell, stays ignored.
        """
        if threading.current_thread() is threading.main_thread():
            for number in _RAISED:
                if signal.getsignal(number) is not signal.SIG_IGN or number is signal.SIGTERM:
                    signal.signal(number, self._raise)

    def check(self) -> None:
        """Raise what a signal has asked for; to be called between pieces of work."""
        if self.came is not None:
            raise _RAISED[self.came]

    def _raise(self, number: int, frame: FrameType | None) -> None:
        self.came = self.came or signal.Signals(number)
        self.check()


@contextmanager
def interrupts() -> Iterator[Interrupts]:
    """Let Ctrl-C end the block by KeyboardInterrupt and a SIGTERM by `Terminated`, whatever they become on the way.

    Raises:
        KeyboardInterrupt: when a SIGINT came.
        Terminated: when a SIGTERM came.
    """
    state = Interrupts()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        state.handle()
        yield state
    except BaseException as stop:
        if state.came is signal.SIGTERM and not isinstance(stop, Terminated):
            raise Terminated from stop
        if state.came is signal.SIGINT and not isinstance(stop, KeyboardInterrupt):
            raise KeyboardInterrupt from stop
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)
    state.check()
