from collections.abc import Sequence
from typing import Any

import pytest

from pfit_ray.cluster.placement import place
from pfit_ray.cluster.resources import Cluster, NodeKind
from pfit_ray.config import RunConfig
from pfit_ray.config.load import validate
from pfit_ray.config.resources import PricesConfig
from pfit_ray.runner.estimate import Cost, Work, cost_of, describe_estimate, describe_price, pass_seconds
from pfit_ray.tasks.base import Stage
from pfit_ray.tasks.passes import PassPlan

CPU = Cost(fetch=0.01, network=1.0, rest=3.0, gpu=False, how="measured")
GPU = Cost(fetch=0.01, network=0.1, rest=3.0, gpu=True, how="measured")


def config(**resources: Any) -> RunConfig:
    return validate({"output": "run", "data": {"source": "samples"}, "resources": resources})


def seconds(cost: Cost, images: int, shards: int, cluster: Cluster, **resources: Any) -> tuple[float, str]:
    settings = config(**resources)
    return pass_seconds(Work("seeds", images, shards, cost), place(settings, cluster), cluster, settings.resources)


class _Named(Stage):
    def process(self, row: dict) -> None:
        pass


def stages(names: Sequence[str]) -> list[Stage]:
    return [type("One", (_Named,), {"name": name})() for name in names]


def test_cost_of() -> None:
    plan = PassPlan("seeds", stages(["decode", "cam"]), stages(["fit", "encode"]))
    timings = {
        "fetch": {"images": 4, "seconds": 8.0},
        "decode": {"images": 4, "seconds": 1.0},
        "cam": {"images": 3, "seconds": 3.0, "gpu_seconds": 3.0},
        "fit": {"images": 3, "seconds": 5.0},
        "write": {"images": 4, "seconds": 1.0},
    }
    assert cost_of(timings, plan, 4, "so", at_once=2) == Cost(1.0, 1.0, 1.5, True, "so")
    del timings["cam"]["gpu_seconds"]
    assert cost_of(timings, plan, 4, "so") == Cost(2.0, 1.0, 1.5, False, "so")


@pytest.mark.parametrize(
    ("cost", "images", "shards", "cpus", "gpus", "resources", "expected"),
    [
        (CPU, 1000, 100, 4, 0, {}, (1000.0, "workers")),
        (CPU, 1000, 2, 4, 0, {}, (2000.0, "workers")),  # more workers than shards
        (CPU, 1000, 5, 4, 0, {}, (1600.0, "workers")),  # the fifth shard comes after four
        (CPU, 1000, 100, 4, 0, {"network": {"workers": 2}, "fuse": True}, (2000.0, "workers")),
        (GPU, 1000, 100, 11, 1, {}, (300.0, "CPU tasks")),
        (GPU, 1000, 100, 401, 1, {}, (100.0, "networks")),
        (GPU, 1000, 100, 11, 1, {"cpu": {"workers": 2}}, (1500.0, "CPU tasks")),
        (Cost(10.0, 1.0, 3.0, False, ""), 1000, 100, 4, 0, {}, (10_000.0, "reading")),  # one task reads for four
    ],
)
def test_pass_seconds(
    cost: Cost, images: int, shards: int, cpus: float, gpus: float, resources: dict, expected: tuple[float, str]
) -> None:
    took, slowest = seconds(cost, images, shards, Cluster.of_one_node(cpus, gpus), **resources)
    assert (pytest.approx(took), slowest) == expected


def test_cpu_tasks_of_their_own_nodes() -> None:
    nodes = (NodeKind(8, 1, labels=(("pool", "gpu"),)), NodeKind(10, labels=(("pool", "cpu"),), alive=3))
    pools = {"cpu": {"labels": {"pool": "cpu"}}, "network": {"labels": {"pool": "gpu"}}}
    assert seconds(GPU, 1000, 1000, Cluster(nodes), **pools) == (pytest.approx(3.0 * 34), "CPU tasks")


def test_prices() -> None:
    nodes = Cluster((NodeKind(16, 2, alive=1, more=3),))
    prices = PricesConfig(cpu_hour=0.05, gpu_hour=1.5, node_hour=0.2, currency="EUR")
    assert describe_price(7200.0, nodes, prices) == "; 32.00 EUR at 16 EUR per hour"
    assert describe_price(36.0, nodes, PricesConfig(node_hour=0.1)) == "; 0.004 at 0.4 per hour"
    assert describe_price(7200.0, nodes, PricesConfig()) == ""


def test_lines() -> None:
    settings = config(node_types=[{"cpus": 16, "gpus": 1, "max_nodes": 2}], prices={"cpu_hour": 0.1, "currency": "USD"})
    here = Cluster.of_one_node(4)
    works = [Work("seeds", 3600, 100, CPU), Work("labels", 3600, 100, "why"), Work("predict", 3600, 100, GPU)]
    lines = list(describe_estimate(settings, "on this machine", here, place(settings, here), works))
    assert lines[:-1] == [
        "pass seeds, 3600 images to do: 4 s per image (networks 1 on a CPU, the rest 3; reading 0.01 beside it), "
        "measured",
        "pass labels, 3600 images to do: seconds per image not known, why",
        "pass predict, 3600 images to do: 3.1 s per image (networks 0.1 on a GPU, the rest 3; reading 0.01 beside it), "
        "measured",
        "time on this machine: 60 min (seeds 60 min, labels not known, predict not known, as its network was measured "
        "on a GPU); 0.4 USD at 0.4 USD per hour",
        "time on resources.node_types (2 nodes, 32 CPU, 2 GPU): 37 min (seeds 30 min (limited by networks), labels not "
        "known, predict 7 min (limited by CPU tasks)); less, as networks of seeds were measured on a CPU and run on "
        "GPUs there; 1.98 USD at 3.2 USD per hour",
    ]
    small = config(node_types=[{"cpus": 0.5, "max_nodes": 2}])
    lines = list(describe_estimate(small, "on this machine", here, place(small, here), works[:1]))
    assert lines[2].startswith("time on resources.node_types (2 nodes, 1 CPU, 0 GPU): none, ")
    assert [*describe_estimate(settings, "", here, place(settings, here), works[1:2])] == [
        lines[0].replace("seeds", "labels").partition(":")[0] + ": seconds per image not known, why"
    ]
