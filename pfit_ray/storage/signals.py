"""Ctrl-C and SIGTERM end a run alike: what is finished stays, and a message says how to continue."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """A SIGTERM, as schedulers and `ray job stop` send it."""


_RAISED = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}


class Interrupts:
    """Remembers the first signal that asks for the end, as the exception of its handler does not always arrive.

    A call that waits inside Ray's core replaces it by a new KeyboardInterrupt, code that breaks because of it may raise
    anything, and a destructor or callback swallows it.
    """

    def __init__(self) -> None:
        self.came: signal.Signals | None = None

    def handle(self) -> None:
        """Set the handlers. Repeat it when Ray is initialised, because Ray replaces that of SIGTERM.

        Only the main thread does this. A SIGINT that this process was started to ignore, as in the background of a
        shell, stays ignored.
        """
        if threading.current_thread() is threading.main_thread():
            for number in _RAISED:
                if signal.getsignal(number) is not signal.SIG_IGN or number is signal.SIGTERM:
                    signal.signal(number, self._raise)

    def check(self) -> None:
        """Raise what a signal has asked for; call it between steps of work."""
        if self.came is not None:
            raise _RAISED[self.came]

    def _raise(self, number: int, frame: FrameType | None) -> None:
        self.came = self.came or signal.Signals(number)
        self.check()


@contextmanager
def interrupts() -> Iterator[Interrupts]:
    """End the block by KeyboardInterrupt on Ctrl-C and by `Terminated` on SIGTERM, whatever they become on the way.

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
                # A handler that a program around Python has set is unknown here and cannot be put back.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
    state.check()
