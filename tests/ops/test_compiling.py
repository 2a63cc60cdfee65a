import gc
import subprocess
import sys

import numpy as np
from numba.core.registry import CPUDispatcher

from pfit_ray.ops.compiling import compile_kernels
from pfit_ray.ops.crf.crf import LabelCrf, SoftmaxCrf, label_crf, softmax_crf
from pfit_ray.ops.regions.uss_fused import first_weights, segment_unsupervised_fused
from pfit_ray.ops.regions.uss_vote import UssOptions
from pfit_ray.ops.superpixels.superpixels import quickshift_superpixels, slic_superpixels


def compiled() -> dict[str, int]:
    """How many signatures each kernel has been compiled for in this process."""
    kernels = [one for one in gc.get_objects() if type(one) is CPUDispatcher]  # some warn when asked for more
    ours = {f"{one.__module__}.{one.__qualname__}": len(one.signatures) for one in kernels}
    return {name: count for name, count in ours.items() if name.startswith("pfit_ray.ops.") and count}


def in_a_fresh_process(code: str, *arguments: int) -> list[str]:
    """What code prints in a process where no other test has compiled anything."""
    program = f"import sys; sys.path[0] = 'tests/ops'; from test_compiling import *\n{code}"
    words = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()


def run_stages_after_compiling() -> None:
    """Print the rooms of the kernels that have been compiled; the stages' work must not add any."""
    compile_kernels()
    before = compiled()
    image = np.random.default_rng(1).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    for superpixels in (slic_superpixels(image), quickshift_superpixels(image)):
        options = UssOptions(max_iterations=3, min_labels=2)
        segment_unsupervised_fused(image, superpixels, options, first=first_weights(options))
    label_crf(image, superpixels % 3, 3, LabelCrf())
    softmax_crf(image, np.full((4, 60, 90), 0.25, np.float32), SoftmaxCrf())
    assert compiled() == before
    print(*{name.split(".")[2] for name in before})


def test_stages_find_all_that_they_need_compiled() -> None:
    assert sorted(in_a_fresh_process("run_stages_after_compiling()")) == ["crf", "regions", "superpixels"]


def test_shares_together_are_all() -> None:
    def names(*share: int) -> set[str]:
        return set(in_a_fresh_process("compile_kernels(*map(int, sys.argv[1:])); print(*compiled())", *share))

    first, second, all_of_them = names(0, 2), names(1, 2), names(0, 1)
    assert first | second == all_of_them
    assert min(len(first - second), len(second - first)) > 5
    assert names(4, 5) == set()
