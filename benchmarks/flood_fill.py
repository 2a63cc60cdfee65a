"""Seconds of the published PerimeterFit masks: our one pass of fills against Pillow's own fills.

    python benchmarks/flood_fill.py [--repeat 3]

Both get the same region picture of 500 x 375 pixels (scikit-image's coffee through our own stages) and the same
smooth CAM of two classes, and must give the same masks. The published programs fill three times from every seed,
although the second and third fill find nothing left; the ratio is told for one fill per seed, too.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import cv2
import numpy as np
import torch
from chains import HEIGHT, WIDTH, blobs, photograph
from PIL import Image, ImageDraw

from pfit_ray.config.stages import FitConfig, RegionsConfig
from pfit_ray.constants import PUBLISHED_SOURCES, Row
from pfit_ray.data.images import decode_image
from pfit_ray.ops.cam.reference_fit import TOLERANCE, reference_fit_masks
from pfit_ray.tasks.base import Stage
from pfit_ray.tasks.fit import PerimeterStage
from pfit_ray.tasks.regions import RegionsStage

CAM_THRESHOLD = {"slic": 0.05, "quickshift": 0.0}
EDGE_THRESHOLD = {"slic": 250, "quickshift": 200}


def pillow_masks(picture: np.ndarray, perimeter: np.ndarray, hr_cam: np.ndarray, source: str, fills: int) -> np.ndarray:
    """Masks (K, H, W) as published: `fills` fills from every pixel outside the rough CAM, in reading order."""
    picture = (picture / picture.max() * 255).astype(np.uint8)
    rough = hr_cam > CAM_THRESHOLD[source]
    masks = np.empty(rough.shape, dtype=bool)
    for mask, inside in zip(masks, rough, strict=True):
        image = Image.fromarray(picture)
        for row, column in np.argwhere(~inside[:-1, :-1]).tolist():
            for _ in range(fills):
                ImageDraw.floodfill(image, (column, row), (0, 0, 0), thresh=TOLERANCE)
        mask[:] = np.array(image).any(axis=2) | (perimeter > EDGE_THRESHOLD[source])
    return masks & rough if source == "slic" else masks


def our_masks(picture: np.ndarray, perimeter: np.ndarray, hr_cam: np.ndarray, source: str) -> np.ndarray:
    """The same masks by `reference_fit_masks`."""
    return reference_fit_masks(
        picture,
        perimeter,
        hr_cam,
        cam_threshold=CAM_THRESHOLD[source],
        edge_threshold=EDGE_THRESHOLD[source],
        clip_to_cam=source == "slic",
    )


def timed(masks: Callable[[], np.ndarray], repeat: int) -> tuple[float, np.ndarray]:
    """Median seconds of a call, and what it gave."""
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        result = masks()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), result


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3)
    repeat = parser.parse_args().repeat
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    row: Row = {"image": decode_image(photograph(), HEIGHT * WIDTH)}
    stages: list[Stage] = [RegionsStage(source, RegionsConfig(), reference=True) for source in PUBLISHED_SOURCES]
    for stage in [*stages, PerimeterStage(FitConfig(), reference=True)]:
        stage.process(row)
    hr_cam = blobs(HEIGHT, WIDTH)
    hr_cam[hr_cam < 0.02] = 0.0  # a CAM is 0 where a class is not; at 0 the quickshift masks' seeds begin
    for source in PUBLISHED_SOURCES:
        given = row[f"picture_{source}"], row[f"perimeter_{source}"], hr_cam, source
        our_masks(*given)  # compiles
        ours, found = timed(lambda given=given: our_masks(*given), 5 * repeat)
        for fills in (1, 3):
            theirs, published = timed(lambda given=given, fills=fills: pillow_masks(*given, fills), repeat)
            if not np.array_equal(found, published):
                raise SystemExit(f"{source}: the masks differ")
            print(
                f"{source:<10} ours {ours:.4f} s, Pillow with {fills} fill{'s' if fills > 1 else ''} per seed "
                f"{theirs:.3f} s: 1/{theirs / ours:.0f} of the time, equal masks"
            )


if __name__ == "__main__":
    main()
