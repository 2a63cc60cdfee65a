"""Trains a network on Ray Train."""

import os
from typing import Any

from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.train import CheckpointConfig, FailureConfig, LoggingConfig, ScalingConfig, TrainingFailedError
from ray.train import RunConfig as RayRunConfig
from ray.train.torch import TorchConfig

from pfit_ray import storage
from pfit_ray.cluster.resources import current_cluster
from pfit_ray.config import RunConfig
from pfit_ray.errors import UserError
from pfit_ray.rundir.directory import Network
from pfit_ray.train.networks import SPECIAL_WEIGHTS
from pfit_ray.train.placement import check_batch, place_training
from pfit_ray.train.ray_trainer import RayTrainer, fit
from pfit_ray.train.worker import Job, run_worker

CHECKPOINTS = "checkpoints"
CHECKPOINTS_KEPT = 2


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


def _portable(config: RunConfig, name: Network) -> dict[str, Any]:
    """The config as JSON values; workers have another current folder, so paths must be absolute."""
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
