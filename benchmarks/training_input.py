"""How long a training waits for its images, and how many images one thread of the loader delivers.

    python benchmarks/training_input.py [--backbone NAME ...] [--crop 512] [--batch 4] [--steps 3] [--loader-threads 2]

Photographs are scikit-image's, stored as JPEG files of 500 x 375 pixels with label maps, networks have random weights.
The share of the training time that it waits (`data_wait`) should stay below 5 %. On a CPU the network takes nearly all
the time; the images that the loader alone delivers tell which speed of a GPU it keeps up with.
"""

import argparse
import io
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from comparison import HEIGHT, WIDTH, photograph
from PIL import Image

from pfit_ray.config import RunConfig
from pfit_ray.config.load import validate
from pfit_ray.nets.backbones import normalisation
from pfit_ray.rundir.directory import Network
from pfit_ray.train.batches import EpochOrder, load_batches
from pfit_ray.train.examples import COLUMNS, Examples
from pfit_ray.train.loop import Trainer, Workers
from pfit_ray.train.networks import build_objective

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
NETWORKS: tuple[Network, ...] = ("affinitynet", "deeplab")
LARGEST_SHARE = 0.05


def training_table(folder: Path, images: int) -> pa.Table:
    """Write photographs and label maps into a folder; the training table names them again and again."""
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    label[HEIGHT // 4 : -HEIGHT // 4, WIDTH // 4 : -WIDTH // 4] = 1
    png = io.BytesIO()
    Image.fromarray(label).save(png, "PNG")
    (folder / "label.png").write_bytes(png.getvalue())
    for name in PHOTOGRAPHS:
        Image.fromarray(photograph(name)).save(folder / f"{name}.jpg", quality=95)
    rows = [
        {
            **dict.fromkeys(COLUMNS),
            "image_id": f"image{number}",
            "uri": str(folder / f"{PHOTOGRAPHS[number % len(PHOTOGRAPHS)]}.jpg"),
            "keys": [1],
            "label_url": str(folder / "label.png"),
            "label_offset": 0,
            "label_size": len(png.getvalue()),
        }
        for number in range(images)
    ]
    return pa.Table.from_pylist(rows)


def run_config(folder: Path, backbone: str, crop: int, batch: int) -> RunConfig:
    """A run that trains networks of one backbone for one epoch."""
    recipe = {"epochs": 1, "batch_size": batch, "crop": crop}
    network = {"backbone": {"name": backbone, "weights": "none"}, "train": recipe}
    return validate(
        {
            "output": str(folder / "run"),
            "data": {"source": "folder", "root": str(folder / "unread"), "classes": ["object"]},
            "affinitynet": network,
            "deeplab": network,
        }
    )


def make_examples(table: pa.Table, objective: Any, config: RunConfig, name: Network) -> Examples:
    """The examples as a training makes them."""
    mean, std = normalisation(objective.network.backbone)
    return Examples(
        table,
        getattr(config, name).train,
        objective.make_target,
        mean=mean,
        std=std,
        seed=config.seed,
        max_pixels=10**8,
        with_labels=objective.with_labels,
    )


def loader_speed(examples: Examples, batch: int, threads: int) -> float:
    """Images per second that the loader delivers while nothing else runs."""
    batches = EpochOrder(len(examples), batch, 0, 0)
    examples.item(0, 0)
    began = time.perf_counter()
    for _ in load_batches(examples, batches, 0, accumulate=1, threads=threads):
        pass
    return len(batches) * batch / (time.perf_counter() - began)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", nargs="+", default=["efficientnet_lite0", "resnet50"])
    parser.add_argument("--crop", type=int, default=512)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--loader-threads", type=int, default=2)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = training_table(folder, arguments.batch * arguments.steps)
        many = training_table(folder, 80)
        print(
            f"| network | images/s of the training ({device.type}) | waits | target | met | loader, images/s a thread |"
        )
        print("|---|---|---|---|---|---|")
        for backbone in arguments.backbone:
            config = run_config(folder, backbone, arguments.crop, arguments.batch)
            for network in NETWORKS:
                objective = build_objective(network, config)
                speed = loader_speed(make_examples(many, objective, config, network), arguments.batch, 0)
                trainer = Trainer(
                    network,
                    objective,
                    make_examples(table, objective, config, network),
                    getattr(config, network).train,
                    seed=config.seed,
                    workers=Workers(device=device),
                    loader_threads=arguments.loader_threads,
                )
                records: list[dict[str, Any]] = []
                trainer.run_epoch(records.append)
                seconds = sum(record["seconds"] for record in records)
                share = sum(record["data_wait"] * record["seconds"] for record in records) / seconds
                images = sum(record["images"] for record in records) / seconds
                met = "yes" if share < LARGEST_SHARE else "no"
                cells = (
                    *(f"{network}, {backbone}", f"{images:.2f}", f"{share:.1%}"),
                    *(f"< {LARGEST_SHARE:.0%}", met, f"{speed:.0f}"),
                )
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
