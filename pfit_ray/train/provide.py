"""Where a run's networks come from: a training, a weight file, or the rows of an ImageNet classifier."""

import json
from typing import Any, cast

from torch import nn

from pfit_ray import storage
from pfit_ray.cluster.resources import Cluster
from pfit_ray.config import RunConfig
from pfit_ray.errors import UserError
from pfit_ray.nets.backbones import resolve_backbone
from pfit_ray.nets.imagenet import zero_shot_sets
from pfit_ray.nets.networks import rebuild_network
from pfit_ray.nets.pretrained import package_weights, timm_weights
from pfit_ray.nets.published import PUBLISHED_CLASSES, convert_published, is_published
from pfit_ray.nets.weights import load_into, read_state, save_network
from pfit_ray.nets.zero_shot import ZeroShotClassifier, zero_shot_classifier
from pfit_ray.rundir.directory import Network, RunDirectory
from pfit_ray.rundir.review import marks_for_training
from pfit_ray.train.networks import SPECIAL_WEIGHTS, check_first_weights
from pfit_ray.train.placement import check_batch, place_training
from pfit_ray.train.tables import write_examples


def check_networks(config: RunConfig, networks: list[Network]) -> None:
    """Check before any work that weight files fit, batches can be divided, and words name ImageNet classes.

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
    """Check before any work that the run has the reviews that its trainings use.

    Raises:
        UserError: names the field of a training that uses a review, where there is none.
    """
    for name in networks:
        section = getattr(config, name)
        if section.source == "train" and section.train.review:
            marks_for_training(run, name, section.train.review)


def check_training_resources(config: RunConfig, networks: list[Network], cluster: Cluster) -> None:
    """Check before any work that the cluster has room for the trainings.

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
        `source`, and the metrics of a training.

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


def given_network(config: RunConfig, name: Network) -> nn.Module:
    """The network of the file that `classifier.weights`, `affinitynet.weights` or `deeplab.weights` names.

    The file holds our tensors, with or without metadata that say what they are, or is a checkpoint of the published
    programs. Numbers of classes, and whether DeepLabv3+ has GroupNorm, follow from the tensors.

    Args:
        config: the run's config.
        name: which network; its source is `weights`.

    Raises:
        UserError: names the field and the file, when there is none or it does not fit the config.
    """
    section = getattr(config, name)
    url, backbone = section.weights, section.backbone.name
    try:
        resolve_backbone(backbone)
    except ValueError as error:
        raise UserError(f"config: {name}.backbone.name: {error}") from error
    try:
        state, metadata = read_state(url)
        if is_published(state):
            state = convert_published(state, name, backbone)
        kind = metadata.get("network") or PUBLISHED_CLASSES[name].__name__
        _check_kind(kind, metadata.get("backbone"), name, backbone)
        network = rebuild_network(kind, backbone, state)
        load_into(network, state, "the file")
        _check_classes(network, metadata, config)
    except FileNotFoundError as error:
        raise UserError(f"config: {name}.weights names {url!r}, and there is no such file") from error
    except OSError as error:
        raise UserError(f"config: {name}.weights {url} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"config: {name}.weights {url}: {error}") from error
    return network


def _check_kind(kind: str, file_backbone: str | None, name: Network, backbone: str) -> None:
    fitting = [PUBLISHED_CLASSES[name].__name__]
    if name == "classifier":
        fitting.append(ZeroShotClassifier.__name__)
    if kind not in fitting:
        raise ValueError(f"the file holds a network {kind}, not {' or '.join(fitting)}")
    if file_backbone and _untagged(file_backbone) != _untagged(resolve_backbone(backbone)):
        raise ValueError(
            f"the file holds a network on {file_backbone}, but {name}.backbone.name is {backbone}; set it to "
            f"{file_backbone}, or choose another file"
        )


def _untagged(timm_name: str) -> str:
    return timm_name.partition(".")[0]  # the tag names a set of pretrained weights


def _check_classes(network: nn.Module, metadata: dict[str, str], config: RunConfig) -> None:
    class_tensor = getattr(network, "class_tensor", None)
    if class_tensor is None:
        return
    background = int(isinstance(network, PUBLISHED_CLASSES["deeplab"]))
    n_rows, names = len(network.state_dict()[class_tensor]), config.data.class_list.names
    if n_rows != len(names) + background:
        counted = " and background" * background
        raise ValueError(
            f"the file is for {n_rows - background} classes{counted}, but the run has {len(names)} (data.classes)"
        )
    for class_id, file_name in enumerate(_file_classes(metadata), start=1):
        own_id = config.data.class_list.ids.get(file_name, class_id)
        if own_id != class_id:
            raise ValueError(
                f"class {file_name!r} has the id {class_id} in the file, but {own_id} in data.classes; give "
                "data.classes the order of the file"
            )


def _file_classes(metadata: dict[str, str]) -> list[str]:
    try:
        names = json.loads(metadata.get("classes", "[]"))
    except ValueError:  # the file of another program, which writes its classes in another way
        return []
    return cast(list[str], names) if isinstance(names, list) and all(isinstance(n, str) for n in names) else []
