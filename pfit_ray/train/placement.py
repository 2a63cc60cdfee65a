"""The resources that a training takes on a cluster, and whether its batches can be divided among the workers."""

import math
from dataclasses import dataclass

from pfit_ray.cluster.resources import Cluster, Need
from pfit_ray.config.resources import TrainResources
from pfit_ray.config.training import TrainingConfig
from pfit_ray.errors import UserError


@dataclass(frozen=True)
class TrainPlacement:
    """What the workers of a training take on a cluster."""

    workers: int
    cpus: float
    gpus: float
    min_workers: int | None = None
    """Workers that are enough to begin with, where there is no room for all; None waits for all."""

    @property
    def threads(self) -> int:
        """Threads of one worker's tensor operations."""
        return max(1, math.floor(self.cpus))


def place_training(resources: TrainResources, cluster: Cluster) -> TrainPlacement:
    """Decide what the workers of a training take.

    Args:
        resources: the config.
        cluster: its nodes, and those that it may add.

    Raises:
        UserError: when the least number of workers does not fit at the same time; Ray would wait forever.
    """
    fitting = Cluster(tuple(kind for kind in cluster.kinds if kind.has(resources.labels)))
    if not fitting.kinds:
        labels = ", ".join(f"{key}: {value}" for key, value in resources.labels.items())
        raise UserError(
            f"resources.train.labels asks for nodes labelled {labels}, but the cluster has none; correct the labels, "
            "or list under resources.node_types the nodes that its autoscaler adds"
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

    If the number of workers may change, their shares may differ by an image.

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
