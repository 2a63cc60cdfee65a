"""Trains the networks of the VOC-animals experiment by the package's own loop, in this process.

    python benchmarks/voc_animals_training.py --root VOC2012 --seed 2 --output animals2.safetensors

trains another seed of its classifier: 5 epochs over the 1,000 photographs of `train_aug`, crops of 288, no Puzzle loss.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from measuring import photographs

from pfit_ray.config import RunConfig, load_config
from pfit_ray.data.images import encode_label
from pfit_ray.data.label_shards import pack_shard
from pfit_ray.data.sources.item import Item
from pfit_ray.nets.backbones import normalisation
from pfit_ray.nets.weights import save_network
from pfit_ray.rundir.directory import Network
from pfit_ray.train.examples import Examples
from pfit_ray.train.loop import Record, Trainer, Workers
from pfit_ray.train.networks import build_objective, load_first_weights
from pfit_ray.train.tables import EXAMPLE_SCHEMA

CONFIG = Path(__file__).parents[1] / "configs" / "voc2012.yaml"
CLASSIFIER = (
    "classifier.backbone={name: efficientnet_lite0, weights: package}",
    "classifier.puzzle.enabled=false",
    *(
        f"classifier.train.{setting}"
        for setting in ("optimiser=sgd", "epochs=5", "batch_size=16", "learning_rate=0.01")
    ),
    *(f"classifier.train.{setting}" for setting in ("crop=288", "min_side=256", "max_side=512")),
    "images.max_pixels=1000000",
)


def train(
    config: RunConfig, name: Network, items: Sequence[Item], path: Path, labels: Sequence[np.ndarray] | None = None
) -> None:
    """Train a network on photographs, and on their label maps where it learns from these; writes a weight file."""
    torch.set_num_threads(os.cpu_count() or 1)
    rows = [
        {
            **{name: getattr(item, name) for name in ("image_id", "uri", "offset", "length", "row", "column")},
            "keys": list(item.keys or ()),
        }
        for item in items
    ]
    if labels is not None:
        tar, places = pack_shard((item.image_id, encode_label(one)) for item, one in zip(items, labels, strict=True))
        shard = path.with_suffix(".tar")
        shard.write_bytes(tar)
        for row in rows:
            offset, size = places[row["image_id"]]
            row |= {"label_url": str(shard), "label_offset": offset, "label_size": size}
    objective, section = build_objective(name, config), getattr(config, name)
    load_first_weights(objective.network, name, section.backbone)
    mean, std = normalisation(objective.network.get_submodule("backbone"))
    examples = Examples(
        pa.Table.from_pylist(rows, schema=EXAMPLE_SCHEMA),
        section.train,
        objective.make_target,
        mean=mean,
        std=std,
        seed=config.seed,
        max_pixels=config.images.max_pixels,
        with_labels=labels is not None,
    )
    trainer = Trainer(name, objective, examples, section.train, seed=config.seed, workers=Workers())
    for _ in range(section.train.epochs):
        trainer.run_epoch(_tell)
    path.write_bytes(save_network(objective.network, {}))


def _tell(record: Record) -> None:
    print(f"\rstep {record['step']}, loss {record['loss']:.3f}", end="", flush=True)


def main() -> None:
    """Train a classifier."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="a VOC folder")
    parser.add_argument("--classes", default="cat,cow,dog,horse,person,sheep")
    parser.add_argument("--images", type=int, default=1000, help="photographs of train_aug")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--output", required=True, type=Path)
    given = parser.parse_args()
    words = (f"data.root={given.root}", f"data.classes=[{given.classes}]", f"seed={given.seed}", *CLASSIFIER)
    config = load_config(str(CONFIG), words)
    items = photographs(config, "train_aug", given.images)
    print(f"{len(items)} photographs")
    train(config, "classifier", items, given.output)


if __name__ == "__main__":
    main()
