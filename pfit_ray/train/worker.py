"""What one Ray Train worker does."""

import json
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypedDict, cast

import ray.train
import ray.train.torch
import torch
from torch import nn

from pfit_ray import storage
from pfit_ray.cluster.resources import node_id
from pfit_ray.config import RunConfig
from pfit_ray.errors import UserError
from pfit_ray.nets.backbones import normalisation
from pfit_ray.nets.weights import save_network
from pfit_ray.rundir.directory import Network
from pfit_ray.rundir.pace import read_metrics
from pfit_ray.train.curves import Curves
from pfit_ray.train.examples import Examples, read_examples
from pfit_ray.train.loop import Record, StopTrainingError, Trainer, Workers
from pfit_ray.train.networks import build_objective, load_first_weights
from pfit_ray.train.objective import Objective

STATE_FILE = "state.pt"
WORKERS_FILE = "workers.json"
"""How many workers trained, on which device and nodes. A continued training has those of its last start."""


class Job(TypedDict):
    """What every worker of a training is told; URLs are absolute."""

    name: Network
    config: dict[str, Any]
    examples_url: str
    output_url: str
    work_url: str
    threads: int


def run_worker(job: Job) -> dict[str, Any]:
    """Train; the first worker writes checkpoints, curves and the final weights.

    Returns:
        A summary of the training, or one sentence under `error` on a failure that a restart would only repeat.
    """
    torch.set_num_threads(job["threads"])
    context = ray.train.get_context()
    # A node may have GPUs for Ray's scheduling alone; the device is recorded in the workers' file.
    device = ray.train.torch.get_device() if torch.cuda.is_available() else torch.device("cpu")
    workers = Workers(context.get_world_rank(), context.get_world_size(), device)
    config = RunConfig.model_validate(job["config"])
    prepared, error = None, None
    try:
        prepared = _prepare(job, config)
    except UserError as mistake:
        error = str(mistake)
    # No worker may go on alone: it would wait for the others forever.
    errors = [one for one in workers.gather(error) if one]
    if prepared is None or errors:
        return {"error": errors[0]}
    nodes = workers.gather(node_id())
    if workers.rank == 0:
        record = json.dumps({"workers": workers.size, "device": workers.device.type, "nodes": nodes}, indent=1)
        storage.write_bytes(storage.join(job["work_url"], WORKERS_FILE), record.encode())
    trainer = Trainer(
        job["name"],
        *prepared,
        getattr(config, job["name"]).train,
        seed=config.seed,
        workers=workers,
        loader_threads=config.resources.train.loader_threads,
        features_mb=config.resources.train.features_mb,
    )
    try:
        _train(job["work_url"], trainer, config.resources.train.checkpoint_seconds)
    except StopTrainingError as mistake:
        return {"error": str(mistake)}
    if workers.rank > 0:
        return {}
    storage.write_bytes(job["output_url"], save_network(trainer.objective.network, _metadata(config)))
    return summary(read_metrics(job["work_url"]))


def _prepare(job: Job, config: RunConfig) -> tuple[Objective, Examples]:
    objective = build_objective(job["name"], config)
    section = getattr(config, job["name"])
    if ray.train.get_checkpoint() is None:
        load_first_weights(objective.network, job["name"], section.backbone)
    mean, std = normalisation(cast(nn.Module, objective.network.backbone))
    examples = Examples(
        read_examples(job["examples_url"]),
        section.train,
        objective.make_target,
        mean=mean,
        std=std,
        seed=config.seed,
        max_pixels=config.images.max_pixels,
        with_labels=objective.with_labels,
    )
    return objective, examples


def _train(work_url: str, trainer: Trainer, checkpoint_seconds: float) -> None:
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            device = trainer.workers.device
            trainer.load_state(torch.load(Path(folder, STATE_FILE), map_location=device, weights_only=True))
    curves = Curves(work_url, trainer.step) if trainer.workers.rank == 0 else None
    saved = time.monotonic()
    while trainer.epoch < trainer.training.epochs:
        trainer.run_epoch(curves.add if curves else _forget)
        finished = trainer.epoch == trainer.training.epochs
        if trainer.workers.any(finished or time.monotonic() - saved >= checkpoint_seconds):
            if curves:
                curves.publish()
            _report(trainer)
            saved = time.monotonic()
    if curves:
        curves.close()


def _forget(record: Record) -> None:
    """Records are equal on all workers; the first one keeps them."""


def _report(trainer: Trainer) -> None:
    metrics = {"epoch": trainer.epoch, "step": trainer.step}
    if trainer.workers.rank > 0:
        ray.train.report(metrics)
        return
    with tempfile.TemporaryDirectory() as folder:
        torch.save(trainer.state(), Path(folder, STATE_FILE))
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))


def _metadata(config: RunConfig) -> dict[str, str]:
    return {"classes": json.dumps(config.data.class_list.names), "pfit_ray": version("pfit-ray")}


def summary(records: list[Record]) -> dict[str, Any]:
    """The result of a training; see `train_network`."""
    last_epoch = [record for record in records if record["epoch"] == records[-1]["epoch"]]
    images = sum(record["images"] for record in last_epoch)
    skipped = {image_id for record in records for image_id in record.get("skipped", {})}
    seconds = sum(record["seconds"] for record in records)
    return {
        "epochs": records[-1]["epoch"],
        "steps": records[-1]["step"],
        "loss": sum(record["loss"] * record["images"] for record in last_epoch) / images,
        "seconds": seconds,
        "images_per_second": sum(record["images"] for record in records) / seconds,
        "data_wait": sum(record["data_wait"] * record["seconds"] for record in records) / seconds,
        "skipped_images": len(skipped),
    }
