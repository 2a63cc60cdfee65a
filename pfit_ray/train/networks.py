"""The networks by name: built from a run's config, with their first weights and their losses."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

from pfit_ray.config import RunConfig
from pfit_ray.config.training import BackboneConfig
from pfit_ray.errors import UserError
from pfit_ray.nets.backbones import create_backbone
from pfit_ray.nets.pretrained import package_weights, timm_weights
from pfit_ray.nets.published import is_published, rename_published
from pfit_ray.nets.weights import fit_state, load_into, read_state
from pfit_ray.rundir.directory import Network
from pfit_ray.train.affinitynet import affinity_objective
from pfit_ray.train.classifier import classifier_objective
from pfit_ray.train.deeplab import deeplab_objective
from pfit_ray.train.loop import derived_seed
from pfit_ray.train.objective import Objective

SPECIAL_WEIGHTS = ("imagenet", "package", "none")
"""First weights of a backbone that are no URL."""

_OBJECTIVES: dict[Network, Callable[[RunConfig], Objective]] = {
    "classifier": classifier_objective,
    "affinitynet": affinity_objective,
    "deeplab": deeplab_objective,
}


def build_objective(name: Network, config: RunConfig) -> Objective:
    """A network and its losses; its random weights follow from the run's seed.

    Raises:
        UserError: when the backbone does not fit.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(config.seed))
            return _OBJECTIVES[name](config)
    except ValueError as error:
        raise UserError(f"config: {name}.backbone.name: {error}") from error


def load_first_weights(network: nn.Module, name: Network, backbone: BackboneConfig) -> None:
    """Give a network's backbone the weights with which its training begins.

    Raises:
        UserError: when they cannot be had or do not fit.
    """
    if backbone.weights == "none":
        return
    with _explained(name, backbone):
        match backbone.weights:
            case "imagenet":
                state = timm_weights(backbone.name).backbone
            case "package":
                state = package_weights(backbone.name).backbone
            case url:
                state = _backbone_of(url)
        load_into(cast(nn.Module, network.backbone), state, backbone.weights)


def check_first_weights(name: Network, backbone: BackboneConfig) -> None:
    """Check that the file of a backbone's first weights, `weights` as a URL, is there and fits.

    Raises:
        UserError: when it does not.
    """
    try:
        trunk = create_backbone(backbone.name)
    except ValueError as error:
        raise UserError(f"config: {name}.backbone.name: {error}") from error
    with _explained(name, backbone):
        fit_state(trunk, _backbone_of(backbone.weights), backbone.weights)


@contextmanager
def _explained(name: Network, backbone: BackboneConfig) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"config: {name}.backbone.weights: there is no file {backbone.weights!r}") from error
    except OSError as error:
        text = f"{backbone.weights} cannot be read: {error.strerror or error}"
        raise UserError(f"config: {name}.backbone.weights: {text}") from error
    except ValueError as error:
        raise UserError(f"config: {name}.backbone.weights: {error}") from error


def _backbone_of(url: str) -> dict[str, Tensor]:
    state, _ = read_state(url)
    if is_published(state):
        state = rename_published(state)
    prefix = "backbone."
    inside = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    return inside or state
