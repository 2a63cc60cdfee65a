"""What a run would do, without doing it."""

import os
from collections.abc import Iterator

from pfit_ray import freshness
from pfit_ray.config import RunConfig
from pfit_ray.networks import check_networks
from pfit_ray.pipeline import place
from pfit_ray.progress import Progress
from pfit_ray.runner import Runner, networks_of


def describe_plan(config: RunConfig) -> Iterator[str]:
    """Lines for people: images, classes, resources, and each step with what it still has to do.

    Raises:
        UserError: for every mistake that `run` would stop at before its work.
    """
    runner = Runner(config, Progress())
    freshness.check_fresh(runner.run_directory, config)
    steps = runner.steps()
    check_networks(config, networks_of([step for step in steps if step.todo]))
    names = config.data.class_list.names
    yield f"output: {runner.run_directory.root}"
    yield f"classes: {len(names)} ({', '.join(names[:8])}{', ...' if len(names) > 8 else ''})"
    yield f"fidelity: {config.fidelity}"
    for step in steps:
        label = step.name if step.kind == "report" else f"{step.kind} {step.name}"
        count = ""
        if step.kind == "manifest":
            images = sum(1 for _ in runner.images(step.name))
            count = f", {images} images in {-(-images // config.shard_size)} shards"
        yield f"{label}: {step.todo or 'finished'}{count}"
    cpus = max(2, os.cpu_count() or 1)
    yield f"on this machine: {place(config, cpus, 0).describe()}"
