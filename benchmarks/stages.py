"""Each kernel against its oracle, or against the library call that it replaces: time, memory, equality.

    python benchmarks/stages.py [NAME ...] [--device cpu|cuda]

Names are the files in benchmarks/kernels. Photographs are scikit-image's, 500 x 375 pixels; one thread unless
a row says otherwise. Measure on an idle machine; ratios are taken in one run.
"""

import argparse
import importlib
import os
from pathlib import Path

KERNELS = Path(__file__).parent / "kernels"


def main() -> None:
    """Print the table."""
    names = sorted(path.stem for path in KERNELS.glob("*.py"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    parser.add_argument("--device", default="cpu", help="where the kernels that have a form for GPUs run")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(names)
    if unknown:
        parser.error(f"no kernel {', '.join(sorted(unknown))}; choose from {', '.join(names)}")
    for variable in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")

    import cv2
    import torch
    from comparison import HEAD

    print(HEAD)
    for name in arguments.names or names:
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        for row in importlib.import_module(f"kernels.{name}").compare(arguments.device):
            print(row.line(), flush=True)
    if arguments.device.startswith("cuda"):
        print(f"GPU utilisation at the end: {torch.cuda.utilization()} %")


if __name__ == "__main__":
    main()
