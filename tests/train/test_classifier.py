import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pfit_ray.config import RunConfig
from pfit_ray.config.training import PuzzleConfig
from pfit_ray.errors import RowError
from pfit_ray.nets.classifier import CamClassifier
from pfit_ray.nets.puzzle import merge, tile
from pfit_ray.train.classifier import ClassifierObjective, classifier_objective

LABEL = np.zeros((4, 4), np.uint8)


@pytest.fixture(scope="module")
def network() -> CamClassifier:
    torch.manual_seed(0)
    return CamClassifier("efficientnet_lite0", 3).eval()


def test_target_is_multi_hot(network: CamClassifier) -> None:
    objective = ClassifierObjective(network, 3, PuzzleConfig())
    assert objective.make_target(np.array([1, 3], np.int32), LABEL).tolist() == [1.0, 0.0, 1.0]
    assert objective.make_target(np.array([], np.int32), LABEL).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("keys", [[0], [1, 4]])
def test_unknown_class_is_refused(network: CamClassifier, keys: list[int]) -> None:
    objective = ClassifierObjective(network, 3, PuzzleConfig())
    with pytest.raises(RowError, match=r"are not all in 1\.\.3"):
        objective.make_target(np.array(keys, np.int32), LABEL)


def test_plain_loss(network: CamClassifier) -> None:
    objective = ClassifierObjective(network, 3, PuzzleConfig(enabled=False))
    images, targets = torch.randn(2, 3, 64, 64), torch.tensor([[1.0, 0, 0], [0, 1, 1]])
    with torch.no_grad():
        (loss,) = objective(images, targets)
        expected = F.multilabel_soft_margin_loss(network(images).mean(dim=(2, 3)), targets)
    torch.testing.assert_close(loss, expected)
    assert objective.parts == ("classification",)
    assert objective.weights(3, 10) == (1.0,)
    assert objective.terms(targets).tolist() == [2.0]


def test_puzzle_loss(network: CamClassifier) -> None:
    objective = ClassifierObjective(network, 3, PuzzleConfig())
    images, targets = torch.randn(2, 3, 64, 64), torch.tensor([[1.0, 0, 0], [0, 1, 1]])
    with torch.no_grad():
        losses = dict(zip(objective.parts, objective(images, targets), strict=True))
        maps, merged = network(images), merge(network(tile(images)))
    torch.testing.assert_close(
        losses["reclassification"], F.multilabel_soft_margin_loss(merged.mean(dim=(2, 3)), targets)
    )
    distance = ((maps - merged).abs() * targets[:, :, None, None]).mean()
    torch.testing.assert_close(losses["reconstruction"], distance)
    assert objective.terms(targets).tolist() == [2.0, 2.0, 2.0]


def test_puzzle_ramp(network: CamClassifier) -> None:
    objective = ClassifierObjective(network, 3, PuzzleConfig(alpha=4.0, schedule=0.5))
    assert [objective.weights(step, 8) for step in (0, 2, 4, 7)] == [(1, 1, 0), (1, 1, 2), (1, 1, 4), (1, 1, 4)]


def test_objective_of_a_config(make_config) -> None:
    config: RunConfig = make_config(puzzle=False)
    objective = classifier_objective(config)
    assert objective.parts == ("classification",)
    assert objective.network.classifier.weight.shape == (2, 1280, 1, 1)
