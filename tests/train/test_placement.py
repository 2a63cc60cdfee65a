"""What trainings take on clusters of several kinds, and batches that cannot be divided."""

from typing import Any

import pytest
from support.sentences import facts

from pfit_ray.cluster.resources import Cluster, NodeKind
from pfit_ray.config.resources import TrainResources
from pfit_ray.config.training import TrainingConfig
from pfit_ray.errors import UserError
from pfit_ray.train.placement import TrainPlacement, check_batch, place_training


def node(cpus: float, gpus: float = 0, **fields: Any) -> NodeKind:
    return NodeKind(cpus, gpus, **fields)


@pytest.mark.parametrize(
    ("options", "nodes", "expected"),
    [
        ({}, [node(2)], (1, 2.0, 0.0)),
        ({}, [node(1)], (1, 1.0, 0.0)),
        ({"workers": 2}, [node(8)], (2, 4.0, 0.0)),
        ({"workers": 3}, [node(8), node(4)], (3, 4.0, 0.0)),
        ({"workers": 2}, [node(1), node(1)], (2, 1.0, 0.0)),
        ({}, [node(8), node(8, gpus=4)], (1, 1.0, 1.0)),
        ({"gpus_per_worker": 0.0}, [node(8, gpus=4)], (1, 8.0, 0.0)),
        ({"gpus_per_worker": 0.5, "cpus_per_worker": 2.0}, [node(8, gpus=4)], (1, 2.0, 0.5)),
        ({"workers": 4, "cpus_per_worker": 0.5}, [node(2)], (4, 0.5, 0.0)),
        ({"workers": 4}, [node(0), node(8, gpus=2, alive=0, more=2)], (4, 1.0, 1.0)),
        ({"workers": 4, "min_workers": 2}, [node(8, gpus=2)], (4, 1.0, 1.0, 2)),
        ({"labels": {"pool": "train"}}, [node(16), node(4, labels=(("pool", "train"),))], (1, 4.0, 0.0)),
    ],
)
def test_placement(options: dict, nodes: list[NodeKind], expected: tuple) -> None:
    assert place_training(TrainResources(**options), Cluster(tuple(nodes))) == TrainPlacement(*expected)


def test_more_workers_than_cpus() -> None:
    with pytest.raises(UserError, match=r"resources.train.workers is 3\b.* 2 CPUs"):
        place_training(TrainResources(workers=3), Cluster.of_one_node(2))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"workers": 3, "gpus_per_worker": 1.0},
            ["resources.train.workers", "3", "1", "1", "2", "12", "2"],
        ),
        (
            {"workers": 4, "min_workers": 3, "gpus_per_worker": 1.0},
            ["resources.train.min_workers", "3", "1", "1", "2", "12", "2"],
        ),
        (
            {"labels": {"pool": "a100"}},
            ["resources.train.labels", "resources.node_types"],
        ),
    ],
)
def test_what_does_not_fit_is_refused(options: dict, told: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        place_training(TrainResources(**options), Cluster((node(4), node(8, gpus=2))))
    assert facts(caught.value) == told


@pytest.mark.parametrize(("cpus", "threads"), [(0.5, 1), (1.0, 1), (2.0, 2), (3.5, 3)])
def test_threads(cpus: float, threads: int) -> None:
    assert TrainPlacement(1, cpus, 0.0).threads == threads


def test_batch_must_divide() -> None:
    with pytest.raises(UserError, match=r"deeplab.train.batch_size 10 must be a multiple of .* 4"):
        check_batch("deeplab", TrainingConfig(batch_size=10), TrainResources(workers=4))
    with pytest.raises(UserError, match=r"deeplab.train.accumulate 3 is more than the 2 images"):
        check_batch("deeplab", TrainingConfig(batch_size=8, accumulate=3), TrainResources(workers=4))
    with pytest.raises(UserError, match=r"deeplab.train.accumulate 1 is more than the 0 images"):
        check_batch("deeplab", TrainingConfig(batch_size=2), TrainResources(workers=3, min_workers=1))
    check_batch("deeplab", TrainingConfig(batch_size=8, accumulate=2), TrainResources(workers=4))
    check_batch("deeplab", TrainingConfig(batch_size=10), TrainResources(workers=4, min_workers=1))
