"""A small set of images in COCO 2014's own format."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

CATEGORIES = {1: "person", 17: "cat", 18: "dog", 47: "cup", 90: "toothbrush"}
"""Ids as COCO has them, with gaps."""
HEIGHT, WIDTH = 48, 64


def box(left: int, top: int, right: int, bottom: int) -> list[list[float]]:
    """A rectangle as a polygon."""
    return [[left, top, right, top, right, bottom, left, bottom]]


def crowd(left: int, top: int, right: int, bottom: int) -> dict[str, Any]:
    """A rectangle as run lengths."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[top:bottom, left:right] = 1
    runs = np.flatnonzero(np.diff(mask.T.ravel(), prepend=0, append=0))
    return {"size": [HEIGHT, WIDTH], "counts": np.diff(runs, prepend=0, append=HEIGHT * WIDTH).tolist()}


def packed(left: int, top: int, right: int, bottom: int) -> dict[str, Any]:
    """A rectangle as packed run lengths."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    mask[top:bottom, left:right] = 1
    return {"size": [HEIGHT, WIDTH], "counts": coco_mask.encode(mask)["counts"].decode()}


def write_coco(root: Path, split: str = "train2014", photo: Image.Image | None = None) -> Path:
    """Four images: a cat and a dog that overlap; persons as a crowd beside a cup; none; a dog in two pieces."""
    folder = root / split
    folder.mkdir(parents=True)
    names = [f"COCO_{split}_{number:012d}.jpg" for number in (9, 25, 30, 34)]
    for number, name in enumerate(names):
        pixels = np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
        (photo.resize((WIDTH, HEIGHT)) if photo else Image.fromarray(pixels)).save(folder / name)
    things = [
        (9, 17, 0, box(4, 4, 30, 30)),
        (9, 18, 0, box(20, 10, 50, 40)),
        (25, 1, 1, crowd(10, 5, 40, 20)),
        (25, 47, 0, packed(30, 10, 50, 30)),
        (34, 18, 0, box(2, 2, 20, 20) + box(30, 30, 60, 44)),
    ]
    document = {
        "info": {"description": "COCO 2014 Dataset", "year": 2014},
        "images": [
            {"license": 5, "file_name": name, "coco_url": "", "height": HEIGHT, "width": WIDTH, "id": number}
            for number, name in zip((9, 25, 30, 34), names, strict=True)
        ],
        "licenses": [{"url": "", "id": 5, "name": ""}],
        "annotations": [
            {"segmentation": segmentation, "area": 1.5, "iscrowd": is_crowd, "image_id": image, "bbox": [0, 0, 1, 1],
             "category_id": category, "id": number}
            for number, (image, category, is_crowd, segmentation) in enumerate(things, start=500)
        ],
        "categories": [{"supercategory": "x", "id": key, "name": name} for key, name in CATEGORIES.items()],
    }  # fmt: skip
    path = root / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document))
    return path
