"""Trains a network on Ray Train."""

import math
import os
from dataclasses import dataclass
from typing import Any

from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.train import CheckpointConfig, FailureConfig, LoggingConfig, ScalingConfig, TrainingFailedError
from ray.train import RunConfig as RayRunConfig
from ray.train.torch import TorchConfig

from pfit_ray import storage
from pfit_ray.cluster import Cluster, Need, current_cluster
from pfit_ray.config import RunConfig
from pfit_ray.config.resources import TrainResources
from pfit_ray.config.training import TrainingConfig
from pfit_ray.errors import UserError
from pfit_ray.layout import Network
from pfit_ray.train.networks import SPECIAL_WEIGHTS
from pfit_ray.train.ray_trainer import RayTrainer, fit
from pfit_ray.train.worker import Job, run_worker

CHECKPOINTS = "checkpoints"
CHECKPOINTS_KEPT = 2


@dataclass(frozen=True)
class TrainPlacement:
    """What the workers of a training take on a cluster."""

    workers: int
    cpus: float
    gpus: float
    min_workers: int | None = None
    """It begins with so many where there is no room for all; None waits for all."""

    @property
    def threads(self) -> int:
        """Threads of one worker's tensor operations."""
        return max(1, math.floor(self.cpus))


def train_network(
    name: Network, config: RunConfig, examples_url: str, output_url: str, work_url: str
) -> dict[str, Any]:
    """Train one network of a run, or continue its training after the last finished epoch.

    Ray must be initialised. All URLs must be open to all nodes.

    Args:
        name: which network.
        config: the run.
        examples_url: the training table, see `pfit_ray.train.examples.COLUMNS`; its URIs are absolute.
        output_url: where the final weights go, as a safetensors file, last of all.
        work_url: folder for `checkpoints`, `metrics.jsonl` and `tensorboard`.

    Returns:
        `epochs`, `steps`, mean `loss` of the last epoch, `seconds`, `images_per_second`, `data_wait` (share of
        the time spent waiting for images) and `skipped_images` (that could not be used).

    Raises:
        UserError: when config, images or weights do not allow the training, or it diverges.
    """
    placement = place_training(config.resources.train, current_cluster(config.resources.node_types))
    check_batch(name, getattr(config, name).train, config.resources.train)
    work_url = storage.absolute(work_url)
    resources = {"CPU": placement.cpus}
    if placement.gpus:
        resources["GPU"] = placement.gpus
    job = Job(
        name=name,
        config=_portable(config, name),
        examples_url=storage.absolute(examples_url),
        output_url=storage.absolute(output_url),
        work_url=work_url,
        threads=placement.threads,
    )
    trainer = RayTrainer(
        run_worker,
        train_loop_config=job,
        torch_config=TorchConfig(backend=config.resources.train.backend),
        scaling_config=ScalingConfig(
            num_workers=(placement.min_workers, placement.workers) if placement.min_workers else placement.workers,
            label_selector=config.resources.train.labels or None,
            use_gpu=placement.gpus > 0,
            resources_per_worker=resources,
        ),
        run_config=RayRunConfig(
            name=CHECKPOINTS,
            **_storage(work_url),
            failure_config=FailureConfig(max_failures=config.resources.train.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=CHECKPOINTS_KEPT),
            logging_config=LoggingConfig(log_level="ERROR"),
            # OpenMP threads that wait actively make a training 5 to 20 times slower where others use the CPUs too.
            worker_runtime_env={"env_vars": {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive")}},
        ),
    )
    try:
        outcome = fit(trainer)
    except TrainingFailedError as error:
        raise UserError(f"training of {name} failed: {_cause(error)}") from error
    if "error" in outcome:
        raise UserError(outcome["error"])
    return outcome


def place_training(resources: TrainResources, cluster: Cluster) -> TrainPlacement:
    """Decide what the workers of a training take.

    Args:
        resources: the config.
        cluster: its nodes, and those that it may add.

    Raises:
        UserError: when the least number of workers does not fit at the same time; Ray would wait for ever.
    """
    fitting = Cluster(tuple(kind for kind in cluster.kinds if kind.has(resources.labels)))
    if not fitting.kinds:
        labels = ", ".join(f"{key}: {value}" for key, value in resources.labels.items())
        raise UserError(
            f"resources.train.labels asks for nodes labelled {labels}, and the cluster has none; correct the labels, "
            "or say under resources.node_types which nodes its autoscaler adds"
        )
    gpus = resources.gpus_per_worker
    if gpus is None:
        gpus = 1.0 if any(kind.gpus >= 1 for kind in fitting.kinds) else 0.0
    least = resources.min_workers or resources.workers
    cpus = resources.cpus_per_worker
    if cpus is None:
        cpus = 1.0 if gpus else _largest_share(fitting, resources.workers)
    room = sum(Need(cpus, gpus).room(kind) * kind.count for kind in fitting.kinds)
    if room < least:
        which = "min_workers" if resources.min_workers else "workers"
        raise UserError(
            f"resources.train.{which}: {least} worker(s) of {cpus:g} CPUs and {gpus:g} GPUs do not fit into the "
            f"cluster's {sum(kind.count for kind in fitting.kinds)} node(s) with {fitting.cpus:g} CPUs and "
            f"{fitting.gpus:g} GPUs; lower {which}, cpus_per_worker or gpus_per_worker"
        )
    return TrainPlacement(resources.workers, cpus, gpus, resources.min_workers)


def _largest_share(cluster: Cluster, workers: int) -> float:
    """The most whole CPUs that each of some workers can have at the same time."""
    for share in range(math.floor(max(kind.cpus for kind in cluster.kinds)), 0, -1):
        if sum(math.floor(kind.cpus / share) * kind.count for kind in cluster.kinds) >= workers:
            return float(share)
    raise UserError(
        f"resources.train.workers is {workers}, but the cluster has only {cluster.cpus:g} CPUs; lower it or set "
        "resources.train.cpus_per_worker below 1"
    )


def check_batch(name: str, training: TrainingConfig, resources: TrainResources) -> None:
    """Check that a batch can be divided among workers and backward passes.

    Where the number of workers may change, their shares may differ by an image.

    Raises:
        UserError: names the fields.
    """
    workers = resources.workers
    if resources.min_workers is None and training.batch_size % workers:
        raise UserError(
            f"config: {name}.train.batch_size {training.batch_size} must be a multiple of resources.train.workers "
            f"{workers}"
        )
    share = training.batch_size // workers
    if training.accumulate > share:
        raise UserError(
            f"config: {name}.train.accumulate {training.accumulate} is more than the {share} images of each worker's "
            "share of a batch; lower it"
        )


def _portable(config: RunConfig, name: Network) -> dict[str, Any]:
    """The config as JSON values; workers have another current folder, so that paths must be absolute."""
    document = config.model_dump(mode="json")
    backbone = document[name]["backbone"]
    if backbone["weights"] not in SPECIAL_WEIGHTS:
        backbone["weights"] = storage.absolute(backbone["weights"])
    return document


def _storage(work_url: str) -> dict[str, Any]:
    """Where Ray Train keeps checkpoints: through the same driver and credentials as all other files."""
    if storage.is_local(work_url):
        return {"storage_path": work_url}
    _, path = storage.open_system(work_url)
    return {"storage_path": path, "storage_filesystem": PyFileSystem(_open_handler(work_url))}


class _Handler(FSSpecHandler):
    """Goes to other processes as a URL, which each opens with its own connections and credentials.

    Args:
        system: the fsspec driver.
        url: a URL that it opens.
    """

    def __init__(self, system: Any, url: str) -> None:
        super().__init__(system)
        self.url = url

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_handler, (self.url,)


def _open_handler(url: str) -> _Handler:
    return _Handler(storage.open_system(url)[0], url)


def _cause(error: BaseException) -> str:
    """One sentence on why all attempts failed: a user's mistake if any worker tells one, else the first error."""
    failures = getattr(error, "worker_failures", {})
    causes = [getattr(failures[rank], "_base_exc", failures[rank]) for rank in sorted(failures)] or [error]
    for cause in causes:
        if isinstance(cause, UserError):
            return str(cause)
    text = f"{type(causes[0]).__name__}: {' '.join(str(causes[0]).split())}"
    if "out of memory" in text.lower():
        text += "; lower batch_size or crop, or raise accumulate"
    return text
