"""What a stage is, and how a chain of stages runs over rows without letting one bad row stop the others."""

import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from pfit_ray.errors import RowError
from pfit_ray.schema import FAILED, OK, Row

OUTPUT_STRIDE = 16
"""Inputs of AffinityNet and DeepLabv3+ are padded to a multiple of it."""

Timings = dict[str, dict[str, float]]
"""Per stage: `images`, `seconds` (wall) and `cpu_seconds` (of the process's main thread and its helpers)."""


class Stage(ABC):
    """One step of a pass. It declares its name, loads what it needs once, and works on one row at a time."""

    name: ClassVar[str]

    def setup(self) -> None:  # noqa: B027 - most stages have nothing to load
        """Load what is needed once per worker, such as a network."""

    @abstractmethod
    def process(self, row: Row) -> None:
        """Add this stage's columns to a row.

        Raises:
            RowError: when this row cannot be processed; the row fails, the others go on.
        """


def run_stages(stages: Sequence[Stage], rows: Sequence[Row]) -> Timings:
    """Run a chain of stages over rows, in place.

    A row whose stage raises gets `status` "failed", the `stage`, a `reason` code and a `message`, and
    passes through the rest untouched.

    Args:
        stages: the chain; each has been set up.
        rows: rows with a `status`.

    Returns:
        What each stage took.
    """
    timings: Timings = defaultdict(lambda: {"images": 0, "seconds": 0.0, "cpu_seconds": 0.0})
    for row in rows:
        for stage in stages:
            if row["status"] != OK:
                break
            wall, cpu = time.perf_counter(), time.process_time()
            try:
                stage.process(row)
            except RowError as error:
                fail(row, stage.name, error.reason, error.message)
            except Exception as error:
                fail(row, stage.name, "error", f"{type(error).__name__}: {error}")
            timing = timings[stage.name]
            timing["images"] += 1
            timing["seconds"] += time.perf_counter() - wall
            timing["cpu_seconds"] += time.process_time() - cpu
    return dict(timings)


def fail(row: Row, stage: str, reason: str, message: str) -> None:
    """Mark a row as failed; its arrays are dropped, they will not be used."""
    for name, value in list(row.items()):
        if isinstance(value, np.ndarray | list | bytes) and name != "keys":
            del row[name]
    row.update(status=FAILED, stage=stage, reason=reason, message=message)


def add_timings(total: Timings, more: Timings) -> Timings:
    """Sum of two timing tables."""
    result = {name: dict(timing) for name, timing in total.items()}
    for name, timing in more.items():
        mine = result.setdefault(name, {"images": 0, "seconds": 0.0, "cpu_seconds": 0.0})
        for key, value in timing.items():
            mine[key] += value
    return result


def require_finite(array: np.ndarray, what: str) -> None:
    """Raise RowError `non_finite` when an array holds NaN or infinity."""
    if not np.isfinite(array).all():
        raise RowError("non_finite", f"{what} holds NaN or infinity")
