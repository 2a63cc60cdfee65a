"""Ray's start and end, with its noise turned down."""

import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray
import ray.data
from ray._private import ray_constants

from pfit_ray import storage
from pfit_ray.cluster.resources import Cluster, current_cluster, machine_cpus
from pfit_ray.config.resources import ResourcesConfig
from pfit_ray.config.storage import OPTIONS_VARIABLE, Handover, StorageConfig, storage_variables
from pfit_ray.errors import UserError

LOCAL_OBJECT_STORE_MB = 1024
MEMORY_KILL_RETRIES = "3"
IDLE_WORKER_MS = ("RAY_idle_worker_killing_time_threshold_ms", "300000")
"""By default Ray ends a worker that it has no CPU for when it has been idle for a second. Operators of a pipeline wait
longer for each other, a pass waits for a short training, and a new process costs six CPU seconds of imports."""
UV_HOOK = "RAY_ENABLE_UV_RUN_RUNTIME_ENV"
Preload = Callable[[int, int], None]
"""What a worker does ahead of its work, told its number and how many there are."""
ANSWER_SECONDS = 10.0
CLIENT_PREFIX = "ray://"


@contextmanager
def ray_session(
    address: str | None, resources: ResourcesConfig, verbose: bool, preload: Preload | None = None
) -> Iterator[Cluster]:
    """Join a cluster, or start Ray on this machine, and leave it as it was.

    The workers reach storage as this process does (`storage.options`), with its credentials: on this machine they
    inherit its environment, on a cluster they are handed its storage variables, see `worker_environment`.

    Args:
        address: address of a cluster, "auto" for the one this machine belongs to; None takes RAY_ADDRESS,
            and where that is unset starts a local Ray. A Ray that this process has joined is used as it is.
        resources: object store of a local Ray, and the nodes that a cluster may add.
        verbose: keep Ray's messages.
        preload: what the workers of a Ray that is started here do at once, while this process goes on.

    Yields:
        What the cluster has, and may add.

    Raises:
        UserError: when no cluster answers at the address, or the workers would reach storage otherwise than this
            process.
    """
    joined, address = ray.is_initialized(), cluster_address(address)
    with _quiet(verbose):
        if not joined:
            _join(address, resources, verbose)
        try:
            if preload and not (joined or address):
                _preload(preload)
            _check_storage()
            yield current_cluster(resources.node_types)
        finally:
            if not joined:
                ray.shutdown()


def worker_environment() -> dict[str, Any]:
    """Runtime environment for `ray.init` that gives the workers of a cluster this process's way to storage.

    Variables travel inside a callable, which Ray keeps in the memory of its control store for the time of the job:
    other than `env_vars`, it is neither logged nor shown on the dashboard.
    """
    variables = storage_variables(os.environ)
    if storage.options() != StorageConfig():
        variables[OPTIONS_VARIABLE] = storage.options().model_dump_json()
    return {"worker_process_setup_hook": Handover(variables)} if variables else {}


def _preload(preload: Preload) -> None:
    """Have as many workers as there are CPUs get ready; the tasks that come next find them warm.

    Ray's own `preload_python_modules` would do so in each of its processes, those that never see an image among them.
    """
    workers = int(ray.cluster_resources()["CPU"])
    task = ray.remote(num_cpus=1)(preload)
    for number in range(workers):
        task.remote(number, workers)


def _check_storage() -> None:
    mine = storage.options()
    if mine == StorageConfig():
        return
    theirs = ray.get(ray.remote(num_cpus=0)(storage.options).remote())
    if theirs != mine:
        raise UserError(
            "config: the section storage does not reach the workers, because this Ray was started without it; let the "
            "run start or join Ray, or call ray.init(runtime_env=pfit_ray.cluster.session.worker_environment())"
        )


@contextmanager
def inherited(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for the processes that are started meanwhile, and for what these start later."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _without_uv_hook() -> Iterator[None]:
    """Under `uv run` Ray would start each worker by uv in a copy of the current folder.

    That serves clusters; on this machine the copy finds neither the environment nor, mostly, the project, and workers
    never start. Workers that run this process's interpreter need nothing more. Ray reads the variable when it is
    imported, which may be long ago.
    """
    enabled = getattr(ray_constants, UV_HOOK, None)
    setattr(ray_constants, UV_HOOK, False)
    try:
        yield
    finally:
        setattr(ray_constants, UV_HOOK, enabled)


def cluster_address(address: str | None) -> str | None:
    """The cluster that a session would join; None if it would start Ray on this machine."""
    found = address or os.environ.get("RAY_ADDRESS")
    return None if found == "local" else found


def _join(address: str | None, resources: ResourcesConfig, verbose: bool) -> None:
    # What Ray's processes inherit; this one has it only while they start.
    wanted = {
        "OMP_WAIT_POLICY": "passive",  # waiting threads that spin make workers on the same cores many times slower
        "RAY_task_oom_retries": MEMORY_KILL_RETRIES,  # by default what the memory monitor kills is tried without end
        **dict([IDLE_WORKER_MS]),
    }
    if not verbose:
        # Ray Data makes Ray's core complain about each actor pool, harmlessly (ray-project/ray#53727).
        wanted["RAY_BACKEND_LOG_LEVEL"] = "fatal"
    wanted = {name: value for name, value in wanted.items() if name not in os.environ}
    noise = {"log_to_driver": verbose, "logging_level": logging.INFO if verbose else logging.ERROR}
    if address is None:
        megabytes = resources.object_store_mb or LOCAL_OBJECT_STORE_MB
        mine = {**wanted, OPTIONS_VARIABLE: storage.options().model_dump_json(), UV_HOOK: "0"}
        with inherited(mine), _without_uv_hook():
            ray.init(
                address="local",
                num_cpus=machine_cpus(resources.cpus),
                include_dashboard=False,
                object_store_memory=megabytes << 20,
                **noise,
            )
        return
    try:
        _require_answer(address)
        handed = {} if address.startswith(CLIENT_PREFIX) else {"runtime_env": worker_environment()}
        with inherited(wanted):
            ray.init(address=address, **handed, **noise)
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


@contextmanager
def _quiet(verbose: bool) -> Iterator[None]:
    """Turn down the noise of Ray and Ray Data, and leave everything as it was for the process around."""
    context = ray.data.DataContext.get_current()
    flags = {name: getattr(context, name) for name in ("enable_progress_bars", "print_on_execution_start")}
    levels = {logger: logger.level for logger in map(logging.getLogger, ("ray", "ray.data"))}
    try:
        for name in flags:
            setattr(context, name, verbose)
        if not verbose:
            # Even errors: we say in our own words that workers of a shard died, without a traceback for each.
            logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        yield
    finally:
        for name, flag in flags.items():
            setattr(context, name, flag)
        for logger, level in levels.items():
            logger.setLevel(level)
