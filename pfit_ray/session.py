"""Ray's start and end, with its noise turned down."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import ray
import ray.data

from pfit_ray.config.resources import ResourcesConfig
from pfit_ray.errors import UserError

LOCAL_OBJECT_STORE_MB = 1024
ANSWER_SECONDS = 10.0
CLIENT_PREFIX = "ray://"


@dataclass(frozen=True)
class ClusterSize:
    """What the cluster has."""

    nodes: int
    cpus: float
    gpus: float

    def __str__(self) -> str:
        return f"{self.nodes} node(s), {self.cpus:g} CPU, {self.gpus:g} GPU"


@contextmanager
def ray_session(address: str | None, resources: ResourcesConfig, verbose: bool) -> Iterator[ClusterSize]:
    """Join a cluster, or start Ray on this machine, and leave it as it was.

    Args:
        address: address of a cluster, "auto" for the one this machine belongs to; None takes RAY_ADDRESS,
            and where that is unset starts a local Ray. A Ray that this process has joined is used as it is.
        resources: object store of a local Ray.
        verbose: keep Ray's messages.

    Yields:
        What the cluster has.

    Raises:
        UserError: when no cluster answers at the address.
    """
    joined = ray.is_initialized()
    if not joined:
        _join(address or os.environ.get("RAY_ADDRESS"), resources, verbose)
    _quiet_data(verbose)
    try:
        total = ray.cluster_resources()
        nodes = sum(1 for node in ray.nodes() if node["Alive"])
        yield ClusterSize(nodes, total.get("CPU", 0.0), total.get("GPU", 0.0))
    finally:
        if not joined:
            ray.shutdown()


def _join(address: str | None, resources: ResourcesConfig, verbose: bool) -> None:
    # Waiting threads that spin make several workers on the same cores many times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if not verbose:
        # Ray Data makes Ray's core complain about each actor pool, harmlessly (ray-project/ray#53727).
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    noise = {"log_to_driver": verbose, "logging_level": logging.INFO if verbose else logging.ERROR}
    if address in (None, "local"):
        megabytes = resources.object_store_mb or LOCAL_OBJECT_STORE_MB
        ray.init(
            address="local",
            # A network actor and a CPU task must fit at the same time, on a machine with one core too.
            num_cpus=max(2, os.cpu_count() or 1),
            include_dashboard=False,
            object_store_memory=megabytes << 20,
            **noise,
        )
        return
    try:
        _require_answer(address)
        ray.init(address=address, **noise)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"--address {address}: no Ray cluster answers there ({error}); start one with 'ray start --head', "
            "or leave --address out to run on this machine"
        ) from error


def _require_answer(address: str) -> None:
    """Raise an OSError where nothing listens at host:port; Ray itself would wait for many minutes."""
    host, colon, port = address.removeprefix(CLIENT_PREFIX).rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()


def _quiet_data(verbose: bool) -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = verbose
    context.print_on_execution_start = verbose
    if not verbose:
        logging.getLogger("ray.data").setLevel(logging.ERROR)
