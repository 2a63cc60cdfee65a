import numpy as np
import pytest
import torch
from oracles.affinity import gathered_loss

from pfit_ray.nets.affinitynet import AffinityNet
from pfit_ray.train.affinitynet import AffinityObjective, affinity_objective


@pytest.fixture(scope="module")
def objective() -> AffinityObjective:
    torch.manual_seed(0)
    return AffinityObjective(AffinityNet("efficientnet_lite0"), radius=3)


def test_target_is_the_label_at_stride_4(objective: AffinityObjective) -> None:
    label = np.full((16, 16), 255, np.uint8)
    label[:8, 8:] = 2
    target = objective.make_target(np.array([2], np.int32), label)
    assert target.tolist() == [[255, 255, 2, 2], [255, 255, 2, 2], [255] * 4, [255] * 4]


def test_terms_count_pairs(objective: AffinityObjective) -> None:
    labels = torch.full((1, 3, 5), 255)
    labels[0, 0, 2] = 0  # the only source of radius 3: row 0, column 2
    labels[0, 0, 3], labels[0, 1, 1], labels[0, 2, 2] = 0, 7, 7
    assert objective.terms(labels).tolist() == [1.0, 0.0, 2.0]


def test_weighted_parts_are_the_loss(objective: AffinityObjective) -> None:
    images = torch.randn(2, 3, 64, 64)
    targets = torch.randint(0, 3, (2, 16, 16))
    with torch.no_grad():
        parts = objective(images, targets)
        expected = gathered_loss(objective.network(images)[:, 0], targets, 3)
    torch.testing.assert_close((parts * torch.tensor(objective.weights(0, 1))).sum(), expected)


def test_backbone_gets_no_gradient(objective: AffinityObjective) -> None:
    objective(torch.randn(1, 3, 64, 64), torch.randint(0, 2, (1, 16, 16))).sum().backward()
    trained = {name.split(".")[0] for name, p in objective.network.named_parameters() if p.grad is not None}
    assert trained == {"edge_heads", "edge_fusion"}


def test_objective_of_a_config(make_config) -> None:
    assert affinity_objective(make_config()).radius == 4
