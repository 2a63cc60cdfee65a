from typing import Any

import pytest
from support.sentences import facts

from pfit_ray.cluster.placement import Placement, place
from pfit_ray.cluster.resources import Cluster, NodeKind
from pfit_ray.config import RunConfig
from pfit_ray.config.load import validate
from pfit_ray.errors import UserError

GIB = 1 << 30


def cluster(*kinds: NodeKind) -> Cluster:
    return Cluster(kinds)


def config(**resources: Any) -> RunConfig:
    return validate({"output": "run", "data": {"source": "samples"}, "resources": resources})


def separate(**resources: Any) -> RunConfig:
    return config(fuse=False, **resources)


@pytest.mark.parametrize(
    ("resources", "cpus", "gpus", "network_workers", "network_gpus"),
    [
        ({}, 2, 0, 1, 0),
        ({}, 9, 0, 4, 0),  # half of what is left beside one CPU task
        ({"network": {"cpus": 2}}, 9, 0, 2, 0),
        ({"network": {"cpus": 2}}, 3, 0, 1, 0),
        ({"network": {"workers": 2}}, 9, 0, 2, 0),
        ({"network": {"workers": 100}}, 9, 0, 4, 0),
        ({"network": {"cpus": 0.25}}, 2, 0, 2, 0),
        ({}, 16, 4, 4, 1),  # one GPU each where there are GPUs
        ({}, 4, 8, 3, 1),  # GPUs without CPUs stay idle
        ({"network": {"cpus": 0.25}}, 4, 8, 8, 1),
        ({"network": {"gpus": 0.5}}, 16, 4, 8, 0.5),
        ({"network": {"gpus": 2}}, 16, 5, 2, 2),
        ({"network": {"gpus": 0}}, 9, 4, 4, 0),
        ({"network": {"workers": 1}}, 16, 4, 1, 1),
    ],
)
def test_place(resources: dict, cpus: float, gpus: float, network_workers: int, network_gpus: float) -> None:
    placement = place(separate(**resources), Cluster.of_one_node(cpus, gpus))
    assert (placement.network_workers, placement.network_gpus) == (network_workers, network_gpus)
    assert placement.fetch_cpus == 0.25
    assert placement.cpu_cpus == 1
    taken = placement.network_cpus + placement.cpu_cpus
    assert taken <= cpus
    assert (placement.fused, placement.min_network_workers) == (False, 1)


@pytest.mark.parametrize(
    ("resources", "fused"),
    [
        ({}, True),
        ({"fuse": False}, False),
        ({"network": {"cpus": 2}}, False),  # what network and cpu say differs
        ({"network": {"cpus": 2}, "cpu": {"cpus": 2}}, True),
        ({"cpu": {"labels": {"pool": "cpu"}}}, False),
        ({"cpu": {"memory_mb": 1000}}, False),
        ({"network": {"workers": 1}}, False),
        ({"network": {"gpus": 1}}, False),
        ({"network": {"gpus": 0}}, True),
        ({"network": {"threads": 2}, "fuse": True}, True),
        ({"network": {"gpus": 1}, "fuse": True}, True),
    ],
)
def test_who_shares_workers(resources: dict, fused: bool) -> None:
    node = NodeKind(cpus=8, gpus=2, labels=(("pool", "cpu"),))
    bare = NodeKind(cpus=8, labels=(("pool", "cpu"),))
    kinds = [node] if resources.get("network", {}).get("gpus") is not None else [bare]
    assert place(config(**resources), cluster(*kinds)).fused is fused


@pytest.mark.parametrize(
    ("resources", "kinds", "workers", "at_once"),
    [
        ({}, [NodeKind(1)], 1, 1),
        ({}, [NodeKind(2)], 2, 2),
        ({}, [NodeKind(2, memory=64 * GIB)], 2, 2),
        ({}, [NodeKind(64)], 64, 64),
        ({}, [NodeKind(0), NodeKind(16, alive=2)], 32, 32),
        ({}, [NodeKind(4, alive=1, more=3)], 16, 4),
        ({}, [NodeKind(0), NodeKind(4, alive=0, more=3)], 12, 1),
        ({"network": {"min_workers": 2}}, [NodeKind(4, alive=0, more=3)], 12, 2),
        ({"network": {"cpus": 2}, "cpu": {"cpus": 2}}, [NodeKind(9)], 4, 4),
        ({"network": {"workers": 3}, "cpu": {"workers": 3}}, [NodeKind(9)], 3, 3),
        ({"fuse": True, "network": {"gpus": 0.5}}, [NodeKind(16, 2), NodeKind(16)], 4, 4),
        ({}, [NodeKind(16, memory=32 * GIB)], 5, 5),  # of 5,864 MiB each, beside one that reads
    ],
)
def test_fused_workers_take_all_cpus(resources: dict, kinds: list[NodeKind], workers: int, at_once: int) -> None:
    placement = place(config(**resources), cluster(*kinds))
    assert (placement.fused, placement.warning) == (True, None)
    assert (placement.network_workers, placement.min_network_workers) == (workers, at_once)
    assert placement.network_cpus + placement.fetch_cpus == pytest.approx(
        max(1, resources.get("network", {}).get("cpus", 1))
    )
    assert placement.network_cpus > placement.fetch_cpus > 0
    if placement.memory is not None:
        assert placement.memory.cpu == 0


def test_two_fused_workers_run_on_a_small_machine_too() -> None:
    placement = place(config(), Cluster.of_one_node(8, 0, 4 * GIB))
    assert placement.network_workers == 2
    assert placement.memory is not None
    assert placement.memory.fetch + 2 * placement.memory.network <= 4 * GIB
    assert placement.warning is not None
    assert placement.warning.startswith("Memory: two workers and one that reads may take 12,392 MiB")


def test_fused_workers_take_the_memory_that_network_states() -> None:
    placement = place(config(fuse=True, network={"memory_mb": 3000}), Cluster.of_one_node(8, 0, 4 * GIB))
    assert placement.memory is not None
    assert (placement.memory.network, placement.network_workers) == (3000 << 20, 1)


@pytest.mark.parametrize(
    ("resources", "cpus", "gpus", "told"),
    [
        (
            {"network": {"cpus": 2}},
            2,
            0,
            ["resources.network.cpus", "2", "resources.cpu.cpus", "1", "2"],
        ),
        (
            {"cpu": {"cpus": 1.5}},
            2,
            0,
            ["resources.network.cpus", "1", "resources.cpu.cpus", "1.5", "2"],
        ),
        (
            {"network": {"gpus": 1}},
            8,
            0,
            ["resources.network.gpus", "1", "0"],
        ),
        (
            {"network": {"gpus": 4}},
            8,
            2,
            ["resources.network.gpus", "4", "2"],
        ),
    ],
)
def test_what_does_not_fit_is_refused(resources: dict, cpus: float, gpus: float, told: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        place(separate(**resources), Cluster.of_one_node(cpus, gpus))
    assert facts(caught.value) == told


@pytest.mark.parametrize(
    ("resources", "cpus", "gpus", "gibibytes", "network_workers"),
    [
        ({}, 9, 0, 1000, 4),
        ({}, 9, 0, 26, 2),
        ({}, 9, 0, 16, 1),
        ({"network": {"memory_mb": 1024}, "cpu": {"memory_mb": 1024}, "fetch": {"memory_mb": 1024}}, 9, 0, 6, 2),
        ({"network": {"memory_mb": 1024}, "cpu": {"memory_mb": 1024}, "fetch": {"memory_mb": 1024}}, 9, 4, 5, 3),
        ({"network": {"memory_mb": 1024}, "cpu": {"memory_mb": 1024}, "fetch": {"memory_mb": 1024}}, 9, 0, 3, 1),
    ],
)
def test_memory_bounds_the_network_workers(
    resources: dict, cpus: float, gpus: float, gibibytes: float, network_workers: int
) -> None:
    placement = place(separate(**resources), Cluster.of_one_node(cpus, gpus, gibibytes * GIB))
    assert placement.network_workers == network_workers
    assert placement.warning is None
    assert placement.memory is not None
    memory = placement.memory
    assert memory.fetch + memory.cpu + network_workers * memory.network <= gibibytes * GIB


def test_one_worker_of_each_kind_runs_on_a_small_machine_too() -> None:
    placement = place(separate(), Cluster.of_one_node(2, 0, 2 * GIB))
    assert placement.network_workers == 1
    assert placement.memory is not None
    assert sum(vars(placement.memory).values()) <= 2 * GIB
    assert placement.warning is not None
    assert placement.warning.startswith("Memory: ")


def test_without_a_known_memory_none_is_reserved() -> None:
    assert place(separate(), Cluster.of_one_node(2)).memory is None


def test_placement_for_people() -> None:
    cpu = Placement(fetch_cpus=0.25, network_cpus=1, network_gpus=0, network_workers=3, cpu_cpus=0.5)
    assert cpu.describe() == "networks: up to 3 actors of 1 CPU; the rest: tasks of 0.5 CPU"
    gpu = Placement(fetch_cpus=0.25, network_cpus=0.25, network_gpus=0.5, network_workers=8, cpu_cpus=1)
    fused = Placement(0.01, 0.99, 0, 8, 0.99, fused=True)
    assert fused.describe() == "up to 8 workers of 1 CPU, each for networks and all the rest"
    assert gpu.describe() == "networks: up to 8 actors of 0.25 CPU, 0.5 GPU; the rest: tasks of 1 CPU"


HEAD = NodeKind(cpus=0, memory=4.0 * GIB)
CPU_NODES = NodeKind(cpus=16, memory=256.0 * GIB, alive=2)
GPU_NODES = NodeKind(cpus=8, gpus=4, memory=256.0 * GIB, labels=(("pool", "gpu"),), alive=2)


@pytest.mark.parametrize(
    ("resources", "kinds", "network_workers", "network_gpus"),
    [
        ({}, [HEAD, CPU_NODES, GPU_NODES], 8, 1),
        ({"network": {"cpus": 3}}, [HEAD, CPU_NODES, GPU_NODES], 4, 1),  # two of three CPUs on each node of eight
        ({"network": {"gpus": 0.3}}, [HEAD, CPU_NODES, GPU_NODES], 16, 0.3),  # CPUs bound
        ({"network": {"gpus": 0.3, "cpus": 0.1}}, [HEAD, CPU_NODES, GPU_NODES], 24, 0.3),  # three on a GPU, never four
        ({"network": {"gpus": 3}}, [HEAD, CPU_NODES, GPU_NODES], 2, 3),  # one per node, not 8 // 3
        ({"network": {"labels": {"pool": "gpu"}, "gpus": 0}}, [HEAD, CPU_NODES, GPU_NODES], 8, 0),
        ({"cpu": {"labels": {"pool": "gpu"}}}, [HEAD, CPU_NODES, GPU_NODES], 8, 1),
        ({}, [HEAD, NodeKind(cpus=16, alive=0, more=3)], 23, 0),  # nodes that the autoscaler may add count
        ({}, [HEAD, NodeKind(cpus=4, gpus=1, alive=0, more=5)], 5, 1),
    ],
)
def test_place_on_nodes_of_several_kinds(
    resources: dict, kinds: list[NodeKind], network_workers: int, network_gpus: float
) -> None:
    placement = place(separate(**resources), cluster(*kinds))
    assert (placement.network_workers, placement.network_gpus) == (network_workers, network_gpus)


@pytest.mark.parametrize(
    ("resources", "kinds", "told"),
    [
        (
            {},
            [HEAD],
            ["resources.node_types"],
        ),
        (
            {"network": {"gpus": 5}},
            [HEAD, GPU_NODES],
            ["resources.network.gpus", "5", "4"],
        ),
        (
            {"network": {"cpus": 12}},
            [HEAD, CPU_NODES, GPU_NODES],
            ["resources.network.cpus", "12", "8"],
        ),
        (
            {"cpu": {"cpus": 24}},
            [HEAD, CPU_NODES],
            ["resources.cpu.cpus", "24", "16"],
        ),
        (
            {"network": {"labels": {"pool": "a100"}}},
            [HEAD, CPU_NODES, GPU_NODES],
            ["resources.network.labels", "resources.node_types"],
        ),
        (
            {"network": {"min_workers": 9}},
            [HEAD, CPU_NODES, GPU_NODES],
            ["resources.network.min_workers", "9", "1", "1", "8"],
        ),
        (
            {"network": {"cpus": 8}},
            [HEAD, NodeKind(cpus=8, gpus=1)],
            ["resources.network.cpus", "8", "resources.cpu.cpus", "1", "8"],
        ),
        (
            {"network": {"memory_mb": 300_000}},
            [HEAD, CPU_NODES, GPU_NODES],
            ["resources.network.memory_mb", "300,000", "262,144"],
        ),
    ],
)
def test_what_no_node_holds_is_refused(resources: dict, kinds: list[NodeKind], told: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        place(separate(**resources), cluster(*kinds))
    assert facts(caught.value) == told


def test_memory_must_suffice_node_by_node() -> None:
    nodes = NodeKind(cpus=8, memory=3.0 * GIB, alive=4)
    placement = place(separate(network={"cpus": 8}), cluster(nodes))
    assert placement.memory is not None
    assert placement.memory.network <= 3 * GIB
    assert placement.network_workers == 1  # half of three: the fourth node takes the CPU tasks
