from collections import Counter
from pathlib import Path

import pytest
import yaml

from pfit_ray.cluster import resources
from pfit_ray.cluster.resources import (
    GIBIBYTE,
    HEAD_RESOURCE,
    Cluster,
    Need,
    NodeKind,
    bootstrap_types,
    joined_cluster,
    merged,
)
from pfit_ray.config.resources import NodeType


def node(name: str, cpus: float, *, alive: bool = True, labels: dict | None = None, **resources: float) -> dict:
    """As `ray.nodes()` describes it."""
    own = {"ray.io/node-id": name}
    return {
        "NodeID": name,
        "Alive": alive,
        "Resources": {**({"CPU": cpus} if cpus else {}), "memory": 4.0 * GIBIBYTE, **resources},
        "Labels": own | (labels or {}),
    }


HEAD = {HEAD_RESOURCE: 1.0}


def test_nodes_that_are_alike_are_one_kind() -> None:
    nodes = [
        node("a", 0, **HEAD),
        node("b", 8),
        node("c", 8, GPU=2, labels={"pool": "gpu"}),
        node("d", 8, GPU=2, labels={"pool": "gpu"}),
        node("e", 8, GPU=2, labels={"pool": "gpu"}, alive=False),
    ]
    found = joined_cluster(nodes, "b", [])
    assert set(found.kinds) == {
        NodeKind(0, 0, 4.0 * GIBIBYTE),
        NodeKind(8, 0, 4.0 * GIBIBYTE),
        NodeKind(8, 2, 4.0 * GIBIBYTE, (("pool", "gpu"),), alive=2),
    }
    assert (found.nodes, found.cpus, found.gpus, found.memory) == (4, 24, 4, 12.0 * GIBIBYTE)
    assert str(found) == "4 node(s), 24 CPU, 4 GPU"


def test_nodes_that_may_be_added() -> None:
    gpu_nodes = NodeType(cpus=8, gpus=2, max_nodes=3, labels={"pool": "gpu"})
    types = [gpu_nodes, NodeType(cpus=16, memory_gb=64, max_nodes=2)]
    there = Counter({NodeKind(0, 0, 1.0): 1, NodeKind(8, 2, 5.0, (("pool", "gpu"),)): 1})
    found = merged(there, types)
    assert found.kinds == (
        NodeKind(8, 2, 5.0, (("pool", "gpu"),), alive=1, more=2),  # the memory of the one that is there
        NodeKind(16, 0, 64.0 * GIBIBYTE, alive=0, more=2),
        NodeKind(0, 0, 1.0),
    )
    assert str(found) == "2 node(s), 8 CPU, 2 GPU; up to 4 more node(s), 56 CPU and 6 GPU in all"


def test_unknown_memory_is_unknown_in_all() -> None:
    assert merged(Counter(), [NodeType(cpus=8, max_nodes=1)]).memory is None
    assert Cluster.of_one_node(8, memory=5.0).memory == 5.0


FILE = {
    "cluster_name": "pfit",
    "max_workers": 6,
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 4}, "max_workers": 0},
        "gpu": {"resources": {"CPU": 8, "GPU": 1, "memory": 8 * GIBIBYTE}, "max_workers": 4, "labels": {"pool": "gpu"}},
        "cpu": {"resources": {"CPU": 16}},
        "unknown": {"resources": {}, "max_workers": 2},
        "none": {"resources": {"CPU": 2}, "max_workers": 0},
    },
}


def test_the_head_knows_the_file_of_ray_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "ray_bootstrap_config.yaml"
    file.write_text(yaml.safe_dump(FILE, sort_keys=False))
    types = bootstrap_types(file)
    assert types == [
        NodeType(cpus=8, gpus=1, memory_gb=8, max_nodes=4, labels={"pool": "gpu"}),
        NodeType(cpus=16, max_nodes=6),
    ]
    monkeypatch.setattr(resources, "BOOTSTRAP_FILE", file)
    nodes = [node("a", 0, **HEAD), node("b", 16)]
    assert joined_cluster(nodes, "a", []).cpus == 4 * 8 + 6 * 16
    assert joined_cluster(nodes, "b", []).cpus == 16  # another machine's file says nothing of this cluster
    assert joined_cluster(nodes, "a", [NodeType(cpus=4, max_nodes=1)]).cpus == 20  # the config's word counts


@pytest.mark.parametrize("text", ["", "[]", "max_workers: many", "max_workers: 3", "a: [", "available_node_types: 3"])
def test_a_file_that_says_nothing(tmp_path: Path, text: str) -> None:
    file = tmp_path / "file.yaml"
    file.write_text(text)
    assert bootstrap_types(file) == []
    assert bootstrap_types(tmp_path / "none.yaml") == []


@pytest.mark.parametrize(
    ("need", "room"),
    [
        (Need(1), 8),
        (Need(3), 2),
        (Need(0.1), 80),
        (Need(1, gpus=1), 2),
        (Need(1, gpus=0.5), 4),
        (Need(0.1, gpus=0.4), 4),  # two on each GPU: a fifth would lie on both
        (Need(1, gpus=3), 0),
        (Need(1, memory=3.0), 3),
        (Need(1, labels={"pool": "x"}), 8),
        (Need(1, labels={"pool": "y"}), 0),
    ],
)
def test_room_on_a_node(need: Need, room: int) -> None:
    assert need.room(NodeKind(8, 2, 10.0, (("pool", "x"),))) == room


def test_room_beside_another_worker() -> None:
    node = NodeKind(8, 2, 10.0)
    assert Need(1, gpus=1).room(node, beside=Need(7)) == 1
    assert Need(1, memory=5.0).room(node, beside=Need(1, memory=5.1)) == 0
