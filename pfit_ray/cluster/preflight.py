"""Check that all nodes of a cluster can do a run's work: the same versions, and the same files in sight."""

import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pfit_ray import storage
from pfit_ray.config import RunConfig
from pfit_ray.config.run import ENGINE_PACKAGES
from pfit_ray.errors import UserError, last_line
from pfit_ray.rundir.environment import package_version

COMPARED = ("pfit-ray", "torch", "torchvision", "ray", "numpy", "scikit-image")
"""Packages whose versions decide what comes out, besides those of `network_engine`."""

ANSWER_SECONDS = 120.0
"""A node starts a worker for its answer, which imports what the driver imports."""


@dataclass(frozen=True)
class Answer:
    """What one node says of itself."""

    versions: Mapping[str, str | None]
    missing: tuple[str, ...]
    """URLs that it cannot see."""


def check_nodes(config: RunConfig, root: str, on_gpus: bool = False) -> None:
    """Compare the nodes of the cluster with this process; Ray must be initialised. One node alone is not asked.

    Args:
        config: the run's config.
        root: the run directory.
        on_gpus: whether networks run on GPUs, where `network_engine` means nothing.

    Raises:
        UserError: names the first node with other versions, or that does not see the run directory or the images.
    """
    alive = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    if len(alive) < 2:
        return
    engine = not on_gpus and "onnxruntime" in map(config.engine_of, config.passes)
    mine = _versions((*COMPARED, *(ENGINE_PACKAGES if engine else ())))
    probe = storage.join(root, f"nodes-{uuid.uuid4().hex}.probe")
    storage.write_bytes(probe, b"seen\n")
    urls = {probe: "output", **_local_inputs(config)}
    try:
        for address, answer in _ask(alive, list(urls), list(mine)).items():
            judge(address, answer, mine, urls, root)
    finally:
        storage.remove(probe)


def judge(address: str, answer: Answer, mine: Mapping[str, str | None], urls: Mapping[str, str], root: str) -> None:
    """Raise a UserError for the first thing that is wrong with a node.

    Args:
        address: of the node.
        answer: what it says.
        mine: versions here.
        urls: fields of the config by the URL that stands for each.
        root: the run directory.
    """
    for name in mine:
        if answer.versions.get(name) != mine[name]:
            raise UserError(
                f"node {address} has {name} {answer.versions.get(name)} but this process has {mine[name]}; install "
                "the same version on all nodes"
            )
    for url in answer.missing:
        field = urls[url]
        where = root if field == "output" else url
        raise UserError(
            f"config: {field} {where} is a folder that node {address} does not share; use storage that all nodes see, "
            "such as a bucket (s3://...) or a network file system"
        )


def _ask(alive: Mapping[str, str], urls: Sequence[str], packages: Sequence[str]) -> dict[str, Answer]:
    asking = {
        address: ray.remote(num_cpus=0, max_retries=0)(_answer)
        .options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))
        .remote(urls, packages)
        for node, address in alive.items()
    }
    answers = {}
    for address, one in asking.items():
        try:
            answers[address] = ray.get(one, timeout=ANSWER_SECONDS)
        except GetTimeoutError:
            raise UserError(f"node {address} does not start a worker within {ANSWER_SECONDS:g} seconds") from None
        except RayError as error:
            if "ModuleNotFoundError" in str(error):
                raise UserError(
                    f"node {address} cannot run pfit-ray ({last_line(error)}); install the same package on all nodes"
                ) from None
            raise UserError(f"node {address} cannot run a worker: {last_line(error)}") from error
    return answers


def _answer(urls: Sequence[str], packages: Sequence[str]) -> Answer:
    return Answer(_versions(packages), tuple(url for url in urls if not storage.exists(url)))


def _versions(packages: Sequence[str]) -> dict[str, str | None]:
    return {name: package_version(name) for name in packages}


def _local_inputs(config: RunConfig) -> dict[str, str]:
    """Fields of the config by the folder or file on disk that they name."""
    place = config.data.listed_place or config.data.root
    return {place: "data.root"} if place and "://" not in place and os.path.exists(place) else {}
