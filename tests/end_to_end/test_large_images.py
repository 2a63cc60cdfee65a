"""Large photographs through all passes, within the memory that Ray is told of."""

import re
import subprocess
import sys

import pytest
from support.places import REPOSITORY

from pfit_ray.config import PASSES

pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc"),
]

SOONER = [
    "cam.scales=[1, 2]",
    "regions.uss.max_iterations=1",
    "affinity_label.crf.iterations=1",
    "walk.exp_times=1",
    "predict.scales=[1, 2]",
    "predict.crf.iterations=1",
]
"""The peak is that of one iteration, at the largest scale."""


def assert_within_the_estimates(size: str, passes: tuple[str, ...], operators: tuple[str, ...]) -> None:
    script = REPOSITORY / "benchmarks" / "memory.py"
    words = [sys.executable, str(script), "--size", size, "--passes", *passes, "--operators", *operators]
    done = subprocess.run([*words, "--set", *SOONER], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = re.findall(rf"{size} +(\w+) +(\w+) +(\d+) MiB in \w+ +estimate +(\d+) MiB", done.stdout)
    assert [line[:2] for line in lines] == [(name, operator) for name in passes for operator in operators]
    assert all(int(peak) <= int(estimate) for *_, peak, estimate in lines), done.stdout


@pytest.mark.slow
def test_three_megapixels() -> None:
    assert_within_the_estimates("2000x1500", PASSES, ("fused",))


@pytest.mark.nightly
@pytest.mark.parametrize("pass_name", PASSES)
def test_twelve_megapixels(pass_name: str) -> None:
    assert_within_the_estimates("4000x3000", (pass_name,), ("network", "finish", "fused"))
