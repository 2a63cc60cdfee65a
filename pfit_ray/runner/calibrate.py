"""What an image takes on this machine: the passes' own stages run over some images, in a run directory that goes away.

Networks that are still to be trained get random weights, which take as long.
"""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch

from pfit_ray import storage
from pfit_ray.config import PASSES, Pass, RunConfig
from pfit_ray.data.sources.item import Item
from pfit_ray.errors import UserError
from pfit_ray.nets.weights import save_network
from pfit_ray.rundir.directory import IMAGE_SET, Network, RunDirectory
from pfit_ray.rundir.manifest import write_manifest
from pfit_ray.runner.estimate import Cost, cost_of
from pfit_ray.runner.steps import NEEDS, NETWORK_OF
from pfit_ray.tasks.base import Timings, add_timings
from pfit_ray.tasks.operators import GPU_BATCH
from pfit_ray.tasks.packing import MISTAKE
from pfit_ray.tasks.passes import PassPlan, plan_pass
from pfit_ray.train.networks import build_objective
from pfit_ray.train.provide import provide_network

SECONDS = 30.0
"""For all passes together, after the loading; each takes at least one image behind its first."""
SAMPLE = 48
"""The most images of a set that are tried."""


def calibrate(
    config: RunConfig, run: RunDirectory, passes: Sequence[Pass], images: Mapping[str, Sequence[Item]]
) -> Iterator[tuple[Pass, Cost | str]]:
    """Take some images through passes, one after the other in this process.

    Args:
        config: the run's config.
        run: the run directory, whose networks are taken where it has them. Nothing in it changes.
        passes: the passes whose cost is asked for; what these need is run before them.
        images: images of each image set, whose label is usable.

    Yields:
        Each of the passes, in order, and its cost, or why there is none.

    Raises:
        UserError: when weights cannot be had or do not fit.
    """
    needed = {need for name in passes if (need := NEEDS[name])}
    chosen = [name for name in PASSES if name in passes or name in needed]
    with tempfile.TemporaryDirectory(prefix="pfit-ray-") as folder:
        trial = RunDirectory(folder)
        for name in chosen:
            network = None if name == "seeds" and config.cam.source != "classifier" else NETWORK_OF[name]
            random = network is not None and _provide(config, run, trial, network)
            image_set = IMAGE_SET[name]
            if trial.read_json("manifest", f"{image_set}.json") is None:
                tried: Iterator[Item] = iter(images[image_set])
                if random:  # a classifier with random weights finds no class
                    tried = (replace(item, keys=(1,)) if item.keys is None else item for item in tried)
                batch = (config.resources.network.batch_size or GPU_BATCH) if torch.cuda.is_available() else 1
                write_manifest(trial, image_set, tried, batch)
            how = f", with random weights of {network}" if random else ""
            need = NEEDS[name]
            listed = trial.read_json("manifest", f"{image_set}.json")["shards"]
            shards = trial.finished_numbers(need) if need else range(listed)
            cost = _measure(plan_pass(name, config, trial), config, trial, shards, SECONDS / len(chosen), how)
            if name in passes:
                yield name, cost


def _provide(config: RunConfig, run: RunDirectory, trial: RunDirectory, network: Network) -> bool:
    """Put a network into the trial's directory, and say whether its weights are random."""
    if storage.exists(run.weights(network)):
        storage.write_bytes(trial.weights(network), storage.read_bytes(run.weights(network)))
    elif getattr(config, network).source != "train":
        provide_network(config, trial, network)
    else:
        untrained = build_objective(network, config).network
        storage.write_bytes(trial.weights(network), save_network(untrained, {}))
        return True
    return False


def _measure(
    plan: PassPlan, config: RunConfig, trial: RunDirectory, shards: Sequence[int], seconds: float, how: str
) -> Cost | str:
    """The cost of a pass; its first shard, which loads and compiles, does not count unless it is the only one."""
    fetch, network, finish = plan.operators(config, trial)
    first: Timings = {}
    timings: Timings = {}
    images, begun = 0, 0.0
    for shard in shards:
        result = finish(network(fetch({"shard": shard})))
        if MISTAKE in result:
            raise UserError(result[MISTAKE])
        done = result["ok"] + result["failed"]
        if not result["ok"]:
            continue
        if not first:
            first, begun = result["stages"], time.perf_counter()
            alone = done
            continue
        timings, images = add_timings(timings, result["stages"]), images + done
        if time.perf_counter() - begun >= seconds:
            break
    if not first:
        return "none of the images that were tried came through it"
    if not images:
        timings, images = first, alone
    at_once = min(config.resources.fetch.threads, config.shard_size)
    told = f"measured now on {images} image{'s' if images > 1 else ''}, one after the other{how}"
    return cost_of(timings, plan, images, told, at_once)
