"""What a stage is, and how a chain of stages runs over rows without letting one bad row stop the others."""

import faulthandler
import logging
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np

from pfit_ray import storage
from pfit_ray.config.credentials import redacted
from pfit_ray.constants import FAILED, OK, Row
from pfit_ray.errors import RowError

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


logger = logging.getLogger(__name__)

OUTPUT_STRIDE = 16
"""Inputs of AffinityNet and DeepLabv3+ are padded to a multiple of it."""

Timings = dict[str, dict[str, float]]
"""Per stage: `images`, `failed` (of these), `seconds` (wall), `cpu_seconds` (of the process's main thread and its
helpers); for a network on a GPU `gpu_seconds` (of these, wall); and for those that read or write storage `bytes` (of
image files read, of result files written) and `retries` (requests that had to be repeated)."""


Outcome = Exception | None
"""What became of one row of a batch: the exception that it raised, if it raised one."""


class Stage(ABC):
    """One stage of a pass. It declares its name and its columns, loads what it needs once, and adds to rows.

    A class, or in `__init__` an object, says which columns it `reads` and `adds`; a pass is checked against them when
    it is planned. Where `adds` is None the stage does not say, and what follows may read anything.
    """

    name: ClassVar[str]
    reads: Sequence[str] = ()
    adds: Sequence[str] | None = None

    def setup(self) -> None:  # noqa: B027 - most stages have nothing to load
        """Load what is needed once per worker, such as a network."""

    @property
    def on_gpu(self) -> bool:
        """Whether its network, once set up, is on a GPU."""
        return False

    @abstractmethod
    def process(self, row: Row) -> None:
        """Add this stage's columns to a row.

        Raises:
            RowError: when this row cannot be processed; the row fails, the others continue.
        """

    def process_batch(self, rows: Sequence[Row]) -> list[Outcome]:
        """Process several rows, one after the other unless the stage knows better; none stops the others."""
        return [attempted(self.process, row) for row in rows]


def on_gpu(source: object) -> bool:
    """Whether a source has a network, and its device, the attribute `device`, is a GPU."""
    return str(getattr(source, "device", "cpu")).startswith("cuda")


def columns(kind: str, sources: Iterable[str]) -> tuple[str, ...]:
    """`KIND_NAME` of each region source: the names of one kind of column."""
    return tuple(f"{kind}_{source}" for source in sources)


def attempted(action: Callable[..., None], *arguments: Any) -> Outcome:
    """Call something for a row; the exception that it raises is the result."""
    try:
        action(*arguments)
    except Exception as error:
        return error
    return None


def run_stages(stages: Sequence[Stage], rows: Sequence[Row], seconds: float | None = None) -> Timings:
    """Run a chain of stages over rows, in place.

    All rows go through one stage before the next, so they lie in memory together. A row whose stage raises
    gets `status` "failed", the `stage`, a `reason` code and a `message`, and passes through the rest untouched.

    Args:
        stages: the chain; each has been set up.
        rows: rows with a `status`.
        seconds: a stage that takes longer ends this process; None sets no limit.

    Returns:
        What each stage took.
    """
    timings: Timings = defaultdict(lambda: {"images": 0, "failed": 0, "seconds": 0.0, "cpu_seconds": 0.0})
    for stage in stages:
        waiting = [row for row in rows if row["status"] == OK]
        if not waiting:
            break
        wall, cpu = time.perf_counter(), time.process_time()
        with watchdog(seconds):
            problems = stage.process_batch(waiting)
        for row, problem in zip(waiting, problems, strict=True):
            if problem is not None:
                reason, message = explained(problem)
                logger.warning("image %s failed in stage %s: %s: %s", row.get("image_id"), stage.name, reason, message)
                fail(row, stage.name, reason, message)
        timing = timings[stage.name]
        timing["images"] += len(waiting)
        timing["failed"] += sum(problem is not None for problem in problems)
        took = time.perf_counter() - wall
        timing["seconds"] += took
        if stage.on_gpu:
            timing["gpu_seconds"] = timing.get("gpu_seconds", 0.0) + took
        timing["cpu_seconds"] += time.process_time() - cpu
    return dict(timings)


def explained(problem: Exception) -> tuple[str, str]:
    """Reason code and message of what a stage raised, without secrets."""
    if isinstance(problem, RowError):
        return problem.reason, redacted(problem.message)
    text = redacted(f"{type(problem).__name__}: {problem}")
    # torch has no class of its own for what its CPU allocator refuses.
    if isinstance(problem, MemoryError) or "DefaultCPUAllocator" in text:
        return "out_of_memory", text
    return "error", text


def fail(row: Row, stage: str, reason: str, message: str) -> None:
    """Mark a row as failed; its arrays are dropped, they will not be used."""
    for name, value in list(row.items()):
        if isinstance(value, np.ndarray | list | bytes) and name != "keys":
            del row[name]
    row.update(status=FAILED, stage=stage, reason=reason, message=redacted(message))


def add_timings(total: Timings, more: Timings) -> Timings:
    """Sum of two timing tables."""
    result = {name: dict(timing) for name, timing in total.items()}
    for name, timing in more.items():
        mine = result.setdefault(name, {"images": 0, "seconds": 0.0, "cpu_seconds": 0.0})
        for key, value in timing.items():
            mine[key] = mine.get(key, 0) + value
    return result


class StorageWatch:
    """Measures reading or writing: its time, and the requests that storage made it repeat."""

    def __init__(self) -> None:
        self.began = time.perf_counter(), time.process_time(), storage.retries()

    def timing(self, images: int, failed: int, size: int) -> dict[str, float]:
        """What it has taken so far for so many images, failed ones and bytes; see `Timings`."""
        wall, cpu, repeated = self.began
        return {
            "images": images,
            "failed": failed,
            "seconds": time.perf_counter() - wall,
            "cpu_seconds": time.process_time() - cpu,
            "bytes": size,
            "retries": storage.retries() - repeated,
        }


def require_finite(array: np.ndarray, what: str) -> None:
    """Raise RowError `non_finite` when an array holds NaN or infinity."""
    if not np.isfinite(array).all():
        raise RowError("non_finite", f"{what} holds NaN or infinity")
