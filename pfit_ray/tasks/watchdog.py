"""Ends a worker that is stuck, also where it is stuck in native code."""

import faulthandler
from collections.abc import Iterator
from contextlib import contextmanager

STDERR = 2


@contextmanager
def watchdog(seconds: float | None) -> Iterator[None]:
    """End this process when the block takes longer; its threads' tracebacks go to stderr first.

    The clock is faulthandler's own thread, which needs no GIL. Blocks do not nest: there is one clock.

    Args:
        seconds: how long the block may take; None watches nothing.
    """
    if seconds is None:
        yield
        return
    faulthandler.dump_traceback_later(seconds, exit=True, file=STDERR)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
