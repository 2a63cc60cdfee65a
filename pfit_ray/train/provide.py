"""Where a run's networks come from: a training, a weight file, or the rows of an ImageNet classifier."""

import json
from typing import Any

from pfit_ray import storage
from pfit_ray.cluster.resources import Cluster
from pfit_ray.config import RunConfig
from pfit_ray.errors import UserError
from pfit_ray.nets.given_network import given_network
from pfit_ray.nets.imagenet import zero_shot_sets
from pfit_ray.nets.weights import package_weights, save_network, timm_weights
from pfit_ray.nets.zero_shot import ZeroShotClassifier, zero_shot_classifier
from pfit_ray.rundir.directory import Network, RunDirectory
from pfit_ray.rundir.review import marks_for_training
from pfit_ray.train.networks import SPECIAL_WEIGHTS, check_first_weights
from pfit_ray.train.placement import check_batch, place_training
from pfit_ray.train.tables import write_examples


def check_networks(config: RunConfig, networks: list[Network]) -> None:
    """Make sure before any work that weight files fit, batches can be divided, and words mean ImageNet classes.

    Raises:
        UserError: names the field and the file, number or word.
    """
    for name in networks:
        section = getattr(config, name)
        backbone = section.backbone.weights
        if section.source == "train":
            check_batch(name, section.train, config.resources.train)
        if section.source == "zero_shot":
            _zero_shot_sets(config)
        if section.source == "weights":
            given_network(config, name)
        elif backbone not in SPECIAL_WEIGHTS:
            check_first_weights(name, section.backbone)
        elif backbone == "package":
            try:
                package_weights(section.backbone.name)
            except ValueError as error:
                raise UserError(f"{name}.backbone: {error}") from error


def check_reviews(config: RunConfig, run: RunDirectory, networks: list[Network]) -> None:
    """Make sure before any work that the run has the marks that its trainings go by.

    Raises:
        UserError: names the field of a training that goes by marks, where there are none.
    """
    for name in networks:
        section = getattr(config, name)
        if section.source == "train" and section.train.review:
            marks_for_training(run, name, section.train.review)


def check_training_resources(config: RunConfig, networks: list[Network], cluster: Cluster) -> None:
    """Make sure before any work that the cluster has room for the trainings.

    Raises:
        UserError: when it has not.
    """
    if any(getattr(config, name).source == "train" for name in networks):
        place_training(config.resources.train, cluster)


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
        from pfit_ray.train.fit import train_network  # Ray Train takes seconds to import: only runs that train pay

        examples = write_examples(run, config, name)
        metrics = train_network(name, config, examples, run.weights(name), run.url("train", name))
        return {"source": "train", **metrics}
    network = _zero_shot(config) if section.source == "zero_shot" else given_network(config, name)
    metadata = {"classes": json.dumps(config.data.class_list.names)}
    storage.write_bytes(run.weights(name), save_network(network, metadata))
    return {"source": section.source}


def _zero_shot_sets(config: RunConfig) -> list[tuple[int, ...]]:
    try:
        return zero_shot_sets(config.data.class_list.names, config.classifier.zero_shot or {})
    except ValueError as error:
        raise UserError(f"config: classifier.zero_shot: {error}") from error


def _zero_shot(config: RunConfig) -> ZeroShotClassifier:
    section = config.classifier
    source = package_weights if section.backbone.weights == "package" else timm_weights
    index_sets = _zero_shot_sets(config)
    try:
        return zero_shot_classifier(section.backbone.name, source(section.backbone.name), index_sets)
    except ValueError as error:
        raise UserError(f"classifier: {error}") from error
