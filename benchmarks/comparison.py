"""One kernel against its slow oracle, or against the library call that it replaces, in one run."""

import ctypes
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image

HEIGHT, WIDTH = 375, 500


@dataclass(frozen=True)
class Comparison:
    """One row of the benchmark table.

    Args:
        stage: what is computed, on what.
        oracle: the name of what it is compared with.
        oracle_seconds: seconds of that for one call.
        seconds: seconds of ours for one call, median.
        peak_mb: memory that one call of ours adds to the process, MB; None where it was not measured.
        equality: how both results compare, such as "identical" or "Q within 2e-4, 99.98 % of labels".
        target: what was promised, in words.
        met: whether it holds in this run.
    """

    stage: str
    oracle: str
    oracle_seconds: float
    seconds: float
    peak_mb: float | None
    equality: str
    target: str
    met: bool

    def line(self) -> str:
        """The row as Markdown."""
        peak = "" if self.peak_mb is None else f"{self.peak_mb:.0f} MB"
        cells = [
            self.stage,
            f"{self.oracle}: {_seconds(self.oracle_seconds)}",
            _seconds(self.seconds),
            f"{self.oracle_seconds / self.seconds:.2f} x",
            peak,
            self.equality,
            self.target,
            "yes" if self.met else "no",
        ]
        return f"| {' | '.join(cells)} |"


HEAD = (
    "| stage | oracle | ours | faster by | peak memory | equality | target | met |\n|---|---|---|---|---|---|---|---|"
)


class Timed(NamedTuple):
    """Seconds of one call, median, and what the last call gave."""

    seconds: float
    result: Any


def timed(call: Callable[[], Any], repeat: int = 5, warm_up: int = 1) -> Timed:
    """Time a call some times after a warm-up."""
    (alone,) = timed_in_turn([call], repeat, warm_up)
    return alone


def timed_in_turn(
    calls: Sequence[Callable[[], Any]],
    repeat: int = 5,
    warm_up: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Timed]:
    """Time several calls in turn, A B A B, so that a machine whose speed drifts is fair to all.

    `time.process_time` as clock tells CPU seconds, which other processes disturb less.
    """
    results: list[Any] = [None] * len(calls)
    seconds: list[list[float]] = [[] for _ in calls]
    for number in range(warm_up + repeat):
        for index, call in enumerate(calls):
            start = clock()
            results[index] = call()
            if number >= warm_up:
                seconds[index].append(clock() - start)
    return [Timed(statistics.median(values), result) for values, result in zip(seconds, results, strict=True)]


def peak_megabytes(call: Callable[[], Any]) -> float | None:
    """How far one call raises the resident memory of this process, in MB; None where Linux does not tell."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what earlier calls have freed is not there for this one
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts afresh
    except (OSError, AttributeError):
        return None
    before = _high_water_mark()
    call()
    return (_high_water_mark() - before) / 1024


def _high_water_mark() -> int:
    """Peak resident memory of this process, kB."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])


def photograph(name: str = "coffee", height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """A photograph of scikit-image as uint8 (height, width, 3) RGB."""
    return np.asarray(Image.fromarray(getattr(skimage.data, name)()).resize((width, height)).convert("RGB"))


def _seconds(value: float) -> str:
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"
