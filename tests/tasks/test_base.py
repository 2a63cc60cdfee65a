import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from pfit_ray.constants import FAILED, OK, Row
from pfit_ray.errors import RowError
from pfit_ray.tasks.base import Stage, StorageWatch, add_timings, fail, require_finite, run_stages


class Halve(Stage):
    name = "halve"

    def process(self, row: Row) -> None:
        if row["value"] % 2:
            raise RowError("unreadable", "an odd number")
        row["value"] //= 2
        row["half"] = np.zeros(3)


class Divide(Stage):
    name = "divide"

    def process(self, row: Row) -> None:
        row["quotient"] = 12 // row["value"]


def test_a_bad_row_fails_alone_and_keeps_flowing() -> None:
    rows = [{"image_id": str(value), "value": value, "status": OK} for value in (4, 3, 0, 6)]
    timings = run_stages([Halve(), Divide()], rows)
    assert [row["status"] for row in rows] == [OK, FAILED, FAILED, OK]
    assert [row.get("quotient") for row in rows] == [6, None, None, 4]
    assert rows[1] == {
        "image_id": "3",
        "value": 3,
        "status": FAILED,
        "stage": "halve",
        "reason": "unreadable",
        "message": "an odd number",
    }
    assert (rows[2]["stage"], rows[2]["reason"]) == ("divide", "error")
    assert rows[2]["message"] == "ZeroDivisionError: integer division or modulo by zero"
    assert {name: timing["images"] for name, timing in timings.items()} == {"halve": 4, "divide": 3}
    assert {name: timing["failed"] for name, timing in timings.items()} == {"halve": 1, "divide": 1}
    assert all(timing["seconds"] >= 0 and timing["cpu_seconds"] >= 0 for timing in timings.values())


@pytest.mark.parametrize("error", [ValueError, lambda text: RowError("io_error", text)])
def test_no_secret_in_messages_and_logs(
    error: Callable[[str], Exception], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PLUGIN_API_KEY", "correct-horse")

    class Leak(Halve):
        def process(self, row: Row) -> None:
            raise error("401: https://sesame@host/x?code=sesame with correct-horse")

    row = {"image_id": "a", "status": OK}
    run_stages([Leak()], [row])
    assert row["message"].endswith("401: https://***@host/x?code=*** with ***")
    assert "sesame" not in caplog.text
    assert "correct-horse" not in caplog.text
    fail(row, "halve", "crashed", "https://sesame@host/")
    assert row["message"] == "https://***@host/"


@pytest.mark.parametrize(
    "problem",
    [
        MemoryError("Unable to allocate 9 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    ],
)
def test_a_lack_of_memory_has_its_own_reason(problem: Exception) -> None:
    class Greedy(Stage):
        name = "greedy"

        def process(self, row: Row) -> None:
            raise problem

    row = {"status": OK}
    run_stages([Greedy()], [row])
    assert (row["status"], row["stage"], row["reason"]) == (FAILED, "greedy", "out_of_memory")
    assert row["message"] == f"{type(problem).__name__}: {problem}"


def test_a_failed_image_is_logged_with_its_stage(caplog: pytest.LogCaptureFixture) -> None:
    run_stages([Divide()], [{"image_id": "cat", "status": OK, "value": 0}])
    (record,) = caplog.records
    assert record.getMessage() == (
        "image cat failed in stage divide: error: ZeroDivisionError: integer division or modulo by zero"
    )


def test_a_row_that_failed_before_passes_untouched() -> None:
    row = {"image_id": "a", "status": FAILED, "stage": "fetch", "reason": "missing", "message": "gone"}
    assert run_stages([Halve()], [row]) == {}
    assert row == {"image_id": "a", "status": FAILED, "stage": "fetch", "reason": "missing", "message": "gone"}


def test_an_interruption_is_not_a_failed_row() -> None:
    class Interrupted(Stage):
        name = "interrupted"

        def process(self, row: Row) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_stages([Interrupted()], [{"status": OK}])


def test_failing_drops_what_will_not_be_used() -> None:
    row = {"image_id": "a", "keys": [1], "encoded": b"x", "cam": np.zeros(2), "cam_maps": [np.zeros(2)], "height": 3}
    fail(row, "cam", "non_finite", "NaN")
    assert row == {
        "image_id": "a",
        "keys": [1],
        "height": 3,
        "status": FAILED,
        "stage": "cam",
        "reason": "non_finite",
        "message": "NaN",
    }


def test_most_stages_have_nothing_to_set_up() -> None:
    assert Halve().setup() is None


def test_timings_add_up() -> None:
    one = {"cam": {"images": 1, "seconds": 0.5, "cpu_seconds": 0.25}}
    two = {
        "cam": {"images": 2, "seconds": 1.0, "cpu_seconds": 1.0},
        "fit": {"images": 1, "seconds": 2.0, "cpu_seconds": 2.0},
    }
    assert add_timings(one, two) == {
        "cam": {"images": 3, "seconds": 1.5, "cpu_seconds": 1.25},
        "fit": {"images": 1, "seconds": 2.0, "cpu_seconds": 2.0},
    }
    assert one["cam"]["images"] == 1


def test_what_storage_made_a_step_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = iter([5, 7])
    monkeypatch.setattr("pfit_ray.storage.retries", lambda: next(counted))
    timing = StorageWatch().timing(3, 1, 700)
    assert {name: timing[name] for name in ("images", "failed", "bytes", "retries")} == {
        "images": 3, "failed": 1, "bytes": 700, "retries": 2
    }  # fmt: skip
    assert timing["seconds"] >= 0
    assert add_timings({"fetch": {"images": 1}}, {"fetch": timing})["fetch"]["retries"] == 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_require_finite(bad: float) -> None:
    require_finite(np.array([0.0, 1.0]), "the map")
    require_finite(np.zeros((0, 2)), "the map")
    with pytest.raises(RowError, match="the map holds NaN or infinity") as caught:
        require_finite(np.array([0.0, bad]), "the map")
    assert caught.value.reason == "non_finite"


STUCK = """
import re
from pfit_ray.tasks.base import watchdog
with watchdog({seconds}):
    re.match("(a+)+b", "a" * 40)  # native code that keeps the GIL
"""
QUICK = """
import time
from pfit_ray.tasks.base import watchdog
with watchdog(0.5):
    pass
with watchdog(None):
    time.sleep(1)
print("alive")
"""


def test_a_process_that_is_stuck_in_native_code_ends_and_says_where() -> None:
    ended = subprocess.run([sys.executable, "-c", STUCK.format(seconds=0.5)], capture_output=True, text=True)
    assert ended.returncode == 1
    assert "Timeout" in ended.stderr
    assert 'File "<string>"' in ended.stderr


def test_what_ends_in_time_goes_on() -> None:
    ended = subprocess.run([sys.executable, "-c", QUICK], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "alive\n")
