"""Seconds of each CPU stage on one photograph of 500 x 375 pixels, on one thread.

    python benchmarks/chains.py [--repeat 3] [--fidelity lossless|reference]

The photograph is scikit-image's coffee; its CAM is a smooth blob, because the stages' cost does not depend on it.
"""

import argparse
import io
import statistics

import cv2
import numpy as np
import skimage.data
import torch
from PIL import Image

from pfit_ray.config.load import validate
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.tasks.base import run_stages
from pfit_ray.tasks.passes import plan_pass

HEIGHT, WIDTH, CLASSES = 375, 500, 2


def photograph() -> bytes:
    """A JPEG of 500 x 375 pixels."""
    buffer = io.BytesIO()
    Image.fromarray(skimage.data.coffee()).resize((WIDTH, HEIGHT)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def blobs(height: int, width: int) -> np.ndarray:
    """CLASSES smooth maps (K, height, width) in [0, 1]."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    centres = [(0.3, 0.4), (0.5, 0.7)]
    return np.stack([np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 0.03) for cy, cx in centres]).astype(np.float32)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--fidelity", choices=("lossless", "reference"), default="lossless")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    data = {"source": "samples"}
    config = validate({"output": "unused", "data": data, "fidelity": arguments.fidelity})
    run = RunDirectory("unused")
    strided = (-(-HEIGHT // 4), -(-WIDTH // 4))
    given = {
        "seeds": {"cam": blobs(*strided), "cam_maps": [blobs(24, 32)]},
        "labels": {"seed_cam": blobs(*strided), "edge": 1.0 - blobs(*strided).max(axis=0)},
    }
    for name, columns in given.items():
        stages = [stage for stage in plan_pass(name, config, run).finish if stage.name != "encode"]
        seconds: dict[str, list[float]] = {}
        for _ in range(arguments.repeat + 1):
            row = {"image_id": "coffee", "status": "ok", "keys": [1, 2], "encoded": photograph(), **columns}
            for stage, timing in run_stages(stages, [row]).items():
                seconds.setdefault(stage, []).append(timing["seconds"])
            if row["status"] != "ok":
                raise SystemExit(f"{row['stage']}: {row['message']}")
        for stage, values in seconds.items():
            print(f"{name:<8} {stage:<20} {statistics.median(values[1:]):8.4f} s")


if __name__ == "__main__":
    main()
