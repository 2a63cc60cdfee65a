import subprocess
import sys

STUCK = """
import re
from pfit_ray.tasks.watchdog import watchdog
with watchdog({seconds}):
    re.match("(a+)+b", "a" * 40)  # native code that keeps the GIL
"""
QUICK = """
import time
from pfit_ray.tasks.watchdog import watchdog
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
