"""A photograph of 12 megapixels through all passes, within the memory that Ray is told of."""

import re
import subprocess
import sys

import pytest
from support.places import REPOSITORY

from pfit_ray.config import PASSES

SOONER = [
    "cam.scales=[1, 2]",
    "regions.uss.max_iterations=1",
    "affinity_label.crf.iterations=1",
    "walk.exp_times=1",
    "predict.scales=[1, 2]",
    "predict.crf.iterations=1",
]
"""The peak is that of one iteration, at the largest scale."""


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("pass_name", PASSES)
def test_twelve_megapixels(pass_name: str) -> None:
    script = REPOSITORY / "benchmarks" / "memory.py"
    words = [sys.executable, str(script), "--size", "4000x3000", "--passes", pass_name, "--set", *SOONER]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = re.findall(rf"4000x3000  {pass_name} +(\w+) +(\d+) MiB in \w+ +estimate +(\d+) MiB", done.stdout)
    assert [operator for operator, _, _ in lines] == ["network", "finish", "fused"]
    assert all(int(peak) <= int(estimate) for _, peak, estimate in lines)
