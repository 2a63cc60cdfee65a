"""What a run says while it works: a live display on a terminal, a line every half minute elsewhere.

The same is published every half minute, for other machines.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from pfit_ray.cluster.resources import describe_use
from pfit_ray.config.credentials import redacted
from pfit_ray.rundir.pace import describe_duration, describe_left, describe_rate
from pfit_ray.tasks.base import Timings, add_timings

T = TypeVar("T")

LINE_EVERY = 30.0
"""Seconds between two lines of one step where there is no terminal, and between two publications."""
LOOK_EVERY = 5.0
"""Seconds between two looks at the cluster, or at a training, for a terminal."""
PATIENCE = 5.0
"""Seconds to wait for a slow storage when a step ends."""

State = dict[str, Any]
"""What is published: `step`, `line` (the step's progress in words), `use` (CPUs and GPUs in words), `at` (Unix time)
and, of steps over images or shards, `done`, `total`, `failed`, `rate` (per second) and `seconds_left`."""


class StepProgress:
    """How far one step is.

    Args:
        name: of the step.
        total: how much it has to do; None if nobody knows.
        done: how much of it has been done before.
        unit: what is counted.
        look: says in words how far the step is, for steps that do not count; it may be slow and may raise.
    """

    def __init__(
        self, name: str, total: int | None, done: int = 0, unit: str = "images", look: Callable[[], str] | None = None
    ) -> None:
        self.name = name
        self.total = total
        self.done = done
        self.unit = unit
        self.failed = 0
        self.reasons: Counter[str] = Counter()
        self.stages: Timings = {}
        self.started = time.monotonic()
        self.begun_at = done
        self.look = look
        self.seen = ""

    def add(self, ok: int, failed: int, told: Mapping[str, Any] | None = None) -> None:
        """Count what is finished.

        Args:
            ok: how many are good.
            failed: how many are not.
            told: `reasons` of the failures and `stages`, the seconds that each took, of the finished images.
        """
        self.done += ok + failed
        self.failed += failed
        if told is not None:
            self.reasons.update(told["reasons"])
            self.stages = add_timings(self.stages, told["stages"])

    def each(self, items: Iterable[T]) -> Iterator[T]:
        """The items, each counted as it passes."""
        for item in items:
            self.done += 1
            yield item

    @property
    def seconds(self) -> float:
        """How long the step has been running."""
        return max(time.monotonic() - self.started, 1e-9)

    @property
    def rate(self) -> float:
        """What this run has done of the step per second."""
        return (self.done - self.begun_at) / self.seconds

    @property
    def seconds_left(self) -> float | None:
        """How long the rest will take at this rate; None if that is unknown, and at the end."""
        if self.total is None or self.done >= self.total or self.rate <= 0:
            return None
        return (self.total - self.done) / self.rate

    def line(self) -> str:
        """Where the step stands, in one line."""
        if self.look is not None:
            return f"{self.name}: {self.seen or 'begun'}, {describe_duration(self.seconds)} so far"
        if self.total is None:
            return f"{self.name}: {self.done} {self.unit} listed, {describe_rate(self.rate, self.unit)}"
        failed = f", {self.failed} failed" if self.failed else ""
        counts = f"{self.name}: {self.done} of {self.total} {self.unit}{failed}"
        left = self.seconds_left
        return f"{counts}, {describe_rate(self.rate, self.unit)}{'' if left is None else f', {describe_left(left)}'}"

    def state(self) -> State:
        """The same for programs."""
        if self.look is not None:
            return {"step": self.name, "line": self.line()}
        counts = {name: getattr(self, name) for name in ("done", "total", "failed", "rate", "seconds_left")}
        return {"step": self.name, "line": self.line(), **counts}


class Progress:
    """Talks to the person who started the run.

    Args:
        console: where it talks.
        use: says in words how busy the cluster is; it may be slow and may raise.

    The runner may set `publish`, which gets a `State` every half minute in a thread of its own.
    """

    publish: Callable[[State], None] | None = None

    def __init__(self, console: Console | None = None, use: Callable[[], str] = describe_use) -> None:
        self.console = console or Console(highlight=False)
        self.use = use
        self.used = ""
        self._spoken = self._looked = 0.0

    def say(self, text: str) -> None:
        """Print one line, without secrets."""
        self.console.print(redacted(text), markup=False, soft_wrap=True)

    @contextmanager
    def images(self, name: str, total: int, done: int, unit: str = "images") -> Iterator[StepProgress]:
        """Follow a step over images, or other things that are counted; one line says at the end what came of it."""
        step = StepProgress(name, total, done, unit)
        with self._following(step):
            yield step
        self.say(f"{step.line()}, {step.seconds:.0f} s")

    @contextmanager
    def listing(self, name: str) -> Iterator[StepProgress]:
        """Follow the listing of images, of which nobody knows how many there are."""
        step = StepProgress(f"manifest {name}", None)
        with self._following(step):
            yield step

    @contextmanager
    def watching(self, name: str, look: Callable[[], str]) -> Iterator[None]:
        """Follow a step that says itself how far it is; see `StepProgress`."""
        with self._following(StepProgress(name, None, look=look)):
            yield

    def tick(self, step: StepProgress, begins: bool = False) -> None:
        """Look, say and publish what is due; to be called now and then."""
        now = time.monotonic()
        due = begins or now - self._spoken >= LINE_EVERY
        if due or (self.console.is_terminal and now - self._looked >= LOOK_EVERY):
            self._looked = now
            self.used = _quietly(self.use) or ""
            if step.look is not None:
                step.seen = _quietly(step.look) or step.seen
        if not due:
            return
        self._spoken = now
        if not begins and not self.console.is_terminal:
            self.say(", ".join(part for part in (step.line(), self.used) if part))
        if self.publish is not None:
            state = {**step.state(), "use": self.used, "at": time.time()}
            publish = self.publish
            _quietly(lambda: publish(state))

    def aside(self, action: Callable[[], object]) -> None:
        """Do something that may fail, and that a slow storage must not hold up for long."""
        thread = threading.Thread(target=_quietly, args=(action,), daemon=True)
        thread.start()
        thread.join(PATIENCE)

    @contextmanager
    def _following(self, step: StepProgress) -> Iterator[None]:
        over = threading.Event()

        def follow() -> None:
            self.tick(step, begins=True)
            while not over.wait(1.0):
                self.tick(step)

        thread = threading.Thread(target=follow, name="progress", daemon=True)
        with self._live(step) if self.console.is_terminal else nullcontext():
            thread.start()
            try:
                yield
            finally:
                over.set()
                thread.join(PATIENCE)

    def _live(self, step: StepProgress) -> Live:
        spinner = Spinner("line")

        def display() -> RenderableType:
            return self._display(step, spinner)

        return Live(get_renderable=display, console=self.console, refresh_per_second=2, transient=True)

    def _display(self, step: StepProgress, spinner: Spinner) -> RenderableType:
        head = Table.grid(padding=(0, 1))
        head.add_row(spinner if step.total is None else ProgressBar(step.total, step.done, width=30), Text(step.line()))
        parts: list[RenderableType] = [head, Text(self.used)]
        if step.reasons:
            parts.append(Text("failed: " + ", ".join(f"{count} {name}" for name, count in step.reasons.most_common())))
        if step.stages:
            parts.append(_stage_table(step.stages))
        return Group(*parts)


def _stage_table(stages: Timings) -> Table:
    heads = ("stage", "images", "failed", "s/image", "CPU s/image")
    table = Table(*heads, box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for name, timing in stages.items():
        images = int(timing["images"])
        per_image = (f"{timing[key] / max(images, 1):.3f}" for key in ("seconds", "cpu_seconds"))
        table.add_row(name, str(images), str(int(timing.get("failed", 0))), *per_image)
    return table


def _quietly(action: Callable[[], T]) -> T | None:
    """What an action gives; nothing if it fails: progress is never worth a run."""
    try:
        return action()
    except Exception:
        return None
