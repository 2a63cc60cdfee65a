"""A little corpus to train on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pfit_ray import storage
from pfit_ray.config import RunConfig
from pfit_ray.config.load import validate
from pfit_ray.data import label_shards
from pfit_ray.data.images import encode_label
from pfit_ray.nets.backbones import normalisation
from pfit_ray.rundir.directory import Network
from pfit_ray.train.examples import Examples, read_examples
from pfit_ray.train.loop import Trainer, Workers
from pfit_ray.train.networks import build_objective
from pfit_ray.train.tables import EXAMPLE_SCHEMA

MakeConfig = Callable[..., RunConfig]
MakeTrainer = Callable[..., Trainer]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training table of five images, i0 ... i4: red (class 1) and green (class 2) boxes, and their label maps."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    items, rows = [], []
    for number in range(5):
        height, width = 60 + number, 80
        path = folder / f"i{number}.png"
        image = rng.integers(0, 90, (height, width, 3), dtype=np.uint8)
        image[20:40, 20:50, number % 2] += 160
        Image.fromarray(image).save(path)
        label = np.zeros((height, width), np.uint8)
        label[20:40, 20:50] = 1 + number % 2
        label[:5] = 255
        items.append((path.stem, encode_label(label)))
        rows.append({"image_id": path.stem, "uri": str(path), "keys": [1 + number % 2]})
    tar, places = label_shards.pack_shard(items)
    storage.write_bytes(str(folder / "labels.tar"), tar)
    for row in rows:
        offset, size = places[row["image_id"]]
        row |= {"label_url": str(folder / "labels.tar"), "label_offset": offset, "label_size": size}
    pq.write_table(pa.Table.from_pylist(rows, schema=EXAMPLE_SCHEMA), folder / "examples.parquet")
    return folder


@pytest.fixture
def make_config(tmp_path: Path) -> MakeConfig:
    """A run with tiny trainings of random networks; arguments change all three trainings."""

    def make(
        workers: int = 1, puzzle: bool = True, checkpoint_seconds: float = 0.0, features_mb: int = 64, **train: Any
    ) -> RunConfig:
        recipe = {
            "epochs": 3,
            "batch_size": 4,
            "crop": 64,
            "min_side": 48,
            "max_side": 96,
            "learning_rate": 0.01,
            **train,
        }
        resources = {
            "workers": workers,
            "max_failures": 1,
            "checkpoint_seconds": checkpoint_seconds,
            "features_mb": features_mb,
        }
        network = {"backbone": {"name": "efficientnet_lite0", "weights": "none"}, "train": recipe}
        return validate(
            {
                "output": str(tmp_path / "run"),
                "data": {"source": "folder", "root": str(tmp_path / "images"), "classes": ["one", "two"]},
                "classifier": {**network, "puzzle": {"enabled": puzzle}},
                "affinitynet": {**network, "radius": 4},
                "deeplab": network,
                "resources": {"train": resources},
            }
        )

    return make


@pytest.fixture
def make_trainer(corpus: Path) -> MakeTrainer:
    """The shared loop without Ray, on the corpus."""

    def make(name: Network, config: RunConfig, threads: int = 0) -> Trainer:
        objective = build_objective(name, config)
        training = getattr(config, name).train
        mean, std = normalisation(objective.network.backbone)
        examples = Examples(
            read_examples(str(corpus / "examples.parquet")),
            training,
            objective.make_target,
            mean=mean,
            std=std,
            seed=config.seed,
            max_pixels=10**6,
            with_labels=objective.with_labels,
        )
        return Trainer(
            name,
            objective,
            examples,
            training,
            seed=config.seed,
            workers=Workers(),
            loader_threads=threads,
            features_mb=config.resources.train.features_mb,
        )

    return make
