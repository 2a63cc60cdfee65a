"""What the threshold that CAMs suggest costs against the best one by ground truth: docs/research/results.md.

    python benchmarks/threshold.py --root VOC2012 --classifier classifier.safetensors [--backbone efficientnet_lite0] \
      [--split val] [--skip 48] [--images 36]

The photographs of the split are shuffled with seed 1, and the first `--skip` are left out: the rule was chosen on the
first 48 of `train` and of `val`. Regret is the mIoU at the best threshold of a sweep by steps of 0.01, minus that at a
suggested one, in points; also over sets of 12 of these photographs, drawn 200 times.
"""

import argparse
import random

import numpy as np

import pfit_ray as pf
from pfit_ray import storage
from pfit_ray.config.data import DataConfig, ImageSetConfig
from pfit_ray.data.images import decode_image
from pfit_ray.data.sources.listing import list_images
from pfit_ray.data.sources.mask_ids import mask_ids
from pfit_ray.ops.scores.bootstrap import mean_iou, pixel_counts
from pfit_ray.ops.scores.evaluation import threshold_sweep
from pfit_ray.ops.scores.suggest_threshold import ValueHistogram
from pfit_ray.tasks.score import read_ground_truth

LEVELS = np.arange(0.02, 0.80, 0.01).round(2)
SET, DRAWS = 12, 200


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True)
    parser.add_argument("--classifier", required=True)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--classes", default="cat,cow,dog,horse,person,sheep")
    parser.add_argument("--split", default="val")
    parser.add_argument("--skip", type=int, default=48)
    parser.add_argument("--images", type=int, default=36)
    given = parser.parse_args()

    data = DataConfig(source="voc", root=given.root, classes=tuple(given.classes.split(",")))
    classifier = pf.load_classifier(given.classifier, given.backbone)
    items = sorted(list_images(data, ImageSetConfig(split=given.split)), key=lambda item: item.image_id)
    random.Random(1).shuffle(items)
    counts, values = [], []
    for item in items[given.skip : given.skip + given.images]:
        image = decode_image(storage.fetch(item.uri), 10**8)
        found = pf.cam(image, classifier, item.keys)
        truth = read_ground_truth(item.mask_uri or "", mask_ids(data), len(data.class_list), image.shape[:2])
        matrices = threshold_sweep(found.hr_cam, found.keys, truth, LEVELS.tolist(), len(data.class_list))
        counts.append(pixel_counts(matrices))
        values.append(histogram([found.cam]))
    of_images, of_values = np.stack(counts), np.stack(values)
    miou = mean_iou(of_images.sum(axis=0))
    best = f"{miou.max() * 100:.2f} at {LEVELS[miou.argmax()]:.2f}"
    print(f"{len(of_images)} photographs of {given.split}; best mIoU {best}")
    rng = np.random.default_rng(0)
    sets = [rng.choice(len(of_images), SET, replace=False) for _ in range(DRAWS)]
    print(f"| threshold | at | mIoU | regret | mean regret of {SET} photographs | largest |\n|---|---|---|---|---|---|")
    for name in ("suggested: mean of both", "Otsu", "Li", "0.25 always", "0.35 always"):
        level, regret = judged(name, of_images, of_values)
        of_sets = [judged(name, of_images[one], of_values[one])[1] for one in sets]
        at = miou[np.abs(LEVELS - level).argmin()] * 100
        print(f"| {name} | {level:.2f} | {at:.2f} | {regret:.2f} | {np.mean(of_sets):.2f} | {np.max(of_sets):.2f} |")


def histogram(cams: list[np.ndarray]) -> np.ndarray:
    """Counts of the strongest class's values over some maps."""
    result = ValueHistogram()
    for cam in cams:
        result.add(cam)
    return result.counts


def judged(name: str, counts: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """The threshold of a rule for some photographs, and its regret in points."""
    result = ValueHistogram()
    result.counts = values.sum(axis=0)
    otsu, li = result.otsu_and_li() or (0.5, 0.5)
    suggested = result.threshold() or 0.5
    level = {"suggested: mean of both": suggested, "Otsu": otsu, "Li": li}.get(name) or float(name.split()[0])
    miou = mean_iou(counts.sum(axis=0))
    return level, float(miou.max() - miou[np.abs(LEVELS - level).argmin()]) * 100


if __name__ == "__main__":
    main()
