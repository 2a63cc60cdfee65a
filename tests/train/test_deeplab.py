import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pfit_ray.errors import RowError
from pfit_ray.nets.deeplab import DeepLabV3Plus
from pfit_ray.train.deeplab import DeepLabObjective, deeplab_objective


@pytest.fixture(scope="module")
def objective() -> DeepLabObjective:
    torch.manual_seed(0)
    return DeepLabObjective(DeepLabV3Plus("efficientnet_lite0", 3).eval(), 3)


def test_target_is_the_label(objective: DeepLabObjective) -> None:
    target = objective.make_target(np.array([2], np.int32), np.array([[0, 2], [255, 1]], np.uint8))
    assert target.tolist() == [[0, 2], [255, 1]]
    assert target.dtype == np.int64


def test_unknown_label_is_refused(objective: DeepLabObjective) -> None:
    with pytest.raises(RowError, match="label 3, the last is 2"):
        objective.make_target(np.array([], np.int32), np.array([[0, 3]], np.uint8))


def test_all_ignored_label_is_accepted(objective: DeepLabObjective) -> None:
    assert objective.make_target(np.array([], np.int32), np.full((1, 2), 255, np.uint8)).tolist() == [[255, 255]]


def test_loss_ignores_255(objective: DeepLabObjective) -> None:
    images, targets = torch.randn(2, 3, 32, 32), torch.randint(0, 3, (2, 32, 32))
    targets[:, :7] = 255
    with torch.no_grad():
        (loss,) = objective(images, targets)
        expected = F.cross_entropy(objective.network(images), targets, ignore_index=255)
    torch.testing.assert_close(loss, expected)
    assert objective.terms(targets).tolist() == [2 * 25 * 32]


def test_nothing_to_learn_is_zero(objective: DeepLabObjective) -> None:
    targets = torch.full((1, 32, 32), 255)
    with torch.no_grad():
        assert objective(torch.randn(1, 3, 32, 32), targets).tolist() == [0.0]


def test_objective_of_a_config(make_config) -> None:
    objective = deeplab_objective(make_config())
    assert objective.n_labels == 3
    assert objective.network.decoder.classifier.weight.shape[0] == 3
