"""What a run says while it works: bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

LINE_EVERY = 30.0
"""Seconds between two lines of one step where there is no terminal."""


class StepProgress:
    """Counts the images of one step."""

    def __init__(self, console: Console, name: str, total: int, done: int, bars: Bars | None) -> None:
        self.console = console
        self.name = name
        self.total = total
        self.done = done
        self.failed = 0
        self.started = self.spoken = time.monotonic()
        self.begun_at = done
        self.bars = bars
        self.bar = bars.add_task(name, total=total, completed=done, failed=0) if bars else None

    def add(self, ok: int, failed: int) -> None:
        """Count images that are finished."""
        self.done += ok + failed
        self.failed += failed
        if self.bars is not None and self.bar is not None:
            self.bars.update(self.bar, completed=self.done, failed=self.failed)
        elif time.monotonic() - self.spoken >= LINE_EVERY:
            self.spoken = time.monotonic()
            self.console.print(self.line(), highlight=False, soft_wrap=True)

    def line(self) -> str:
        """Where the step stands, in one line."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        rate = (self.done - self.begun_at) / seconds
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.name}: {self.done} of {self.total} images{failed}, {rate:.2f} images/s"


class Progress:
    """Talks to the person who started the run."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)

    def say(self, text: str) -> None:
        """Print one line."""
        self.console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def images(self, name: str, total: int, done: int) -> Iterator[StepProgress]:
        """Follow a step over images; one line says at the end what came of it."""
        if not self.console.is_terminal:
            step = StepProgress(self.console, name, total, done, None)
            yield step
        else:
            columns = (
                TextColumn("{task.description:<8}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[failed]} failed"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            with Bars(*columns, console=self.console, transient=True) as bars:
                step = StepProgress(self.console, name, total, done, bars)
                yield step
        self.say(f"{step.line()}, {time.monotonic() - step.started:.0f} s")
