"""Where a run's networks come from: a training, a weight file, or the rows of an ImageNet classifier."""

import json
from typing import Any

import ray

from pfit_ray import storage
from pfit_ray.config import RunConfig
from pfit_ray.errors import UserError
from pfit_ray.layout import Network, RunDirectory
from pfit_ray.nets.weights import load_into, load_state, package_weights, save_network, timm_weights
from pfit_ray.nets.zero_shot import zero_shot_classifier
from pfit_ray.train.fit import check_batch, place_training, train_network
from pfit_ray.train.networks import SPECIAL_WEIGHTS, build_network
from pfit_ray.training_tables import write_examples


def check_networks(config: RunConfig, networks: list[Network]) -> None:
    """Make sure before any work that the weight files exist and that batches can be divided among workers.

    Raises:
        UserError: names the field and the file or number.
    """
    for name in networks:
        section = getattr(config, name)
        backbone = section.backbone.weights
        if section.source == "train":
            check_batch(name, section.train, config.resources.train.workers)
        if section.source == "weights":
            _require(f"{name}.weights", section.weights)
        elif backbone not in SPECIAL_WEIGHTS:
            _require(f"{name}.backbone.weights", backbone)
        elif backbone == "package":
            try:
                package_weights(section.backbone.name)
            except ValueError as error:
                raise UserError(f"{name}.backbone: {error}") from error


def check_training_resources(config: RunConfig, networks: list[Network]) -> None:
    """Make sure before any work that the cluster has room for the trainings; Ray must be initialised.

    Raises:
        UserError: when it has not.
    """
    if any(getattr(config, name).source == "train" for name in networks):
        place_training(config.resources.train, ray.nodes())


def provide_network(config: RunConfig, run: RunDirectory, name: Network) -> dict[str, Any]:
    """Put a network's weights at its place in the run directory.

    Args:
        config: the run's config.
        run: the run directory.
        name: which network.

    Returns:
        What is worth telling: `source`, and the metrics of a training.

    Raises:
        UserError: when weights do not fit or cannot be had.
    """
    section = getattr(config, name)
    if section.source == "train":
        examples = write_examples(run, config, name)
        metrics = train_network(name, config, examples, run.weights(name), run.url("train", name))
        return {"source": "train", **metrics}
    try:
        data = _zero_shot(config) if section.source == "zero_shot" else _from_file(config, name)
    except ValueError as error:
        raise UserError(f"{name}: {error}") from error
    storage.write_bytes(run.weights(name), data)
    return {"source": section.source}


def _from_file(config: RunConfig, name: Network) -> bytes:
    section = getattr(config, name)
    network = build_network(name, config)
    state, _ = load_state(storage.read_bytes(section.weights))
    load_into(network, state, f"{name}.weights {section.weights}")
    return save_network(network, _metadata(config))


def _zero_shot(config: RunConfig) -> bytes:
    section = config.classifier
    source = package_weights if section.backbone.weights == "package" else timm_weights
    sets = section.zero_shot or {}
    index_sets = [sets[name] for name in config.data.class_list.names]
    network = zero_shot_classifier(section.backbone.name, source(section.backbone.name), index_sets)
    return save_network(network, _metadata(config))


def _metadata(config: RunConfig) -> dict[str, str]:
    return {"classes": json.dumps(config.data.class_list.names)}


def _require(field: str, url: str) -> None:
    if not storage.exists(url):
        raise UserError(f"config: {field} names {url!r}, and there is no such file")
