"""What the benchmarks on photographs with ground truth share: which photographs, stages run by hand, a cache."""

import random
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from pfit_ray.config import RunConfig
from pfit_ray.config.data import ImageSetConfig
from pfit_ray.constants import Row
from pfit_ray.data.sources.item import Item
from pfit_ray.data.sources.listing import list_images
from pfit_ray.tasks.base import Stage


class Cache:
    """Arrays of one photograph that are computed once; without a folder always."""

    def __init__(self, folder: Path | None, image_id: str) -> None:
        self.folder = folder and folder / image_id

    def __call__(self, name: str, make: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """What `make` returns, from the cache if it is there."""
        if self.folder is None:
            return dict(make())
        path = self.folder / f"{name.replace(' ', '_')}.npz"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial")
            with partial.open("wb") as file:
                np.savez_compressed(file, allow_pickle=False, **make())
            partial.rename(path)
        with np.load(path) as stored:
            return dict(stored)


def run(row: Row, *stages: Stage) -> Row:
    """Take a row through stages, one after the other."""
    for stage in stages:
        stage.process(row)
    return row


@cache
def loaded(kind: Callable[..., Any], *arguments: object) -> Any:
    """A stage that has loaded its network, once per process."""
    stage = kind(*arguments)
    stage.setup()
    return stage


def arrays_of_cam(row: Row) -> dict[str, np.ndarray]:
    """What the CAM stage made, as arrays to keep."""
    return {"cam": row["cam"], **{f"map {index}": one for index, one in enumerate(row["cam_maps"])}}


def photographs(config: RunConfig, split: str, count: int) -> list[Item]:
    """The first labelled photographs with ground truth of a split, after a shuffle with seed 1."""
    items = [item for item in list_images(config.data, ImageSetConfig(split=split)) if item.mask_uri and item.keys]
    random.Random(1).shuffle(items)
    return items[:count]


def one_thread() -> None:
    """Several processes share the cores."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
