from collections import Counter
from pathlib import Path

import pytest
import yaml
from ray._private.utils import get_num_cpus

from pfit_ray.cluster import resources
from pfit_ray.cluster.resources import (
    GIBIBYTE,
    HEAD_RESOURCE,
    Cluster,
    Need,
    NodeKind,
    bootstrap_types,
    joined_cluster,
    machine_cpus,
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


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine of 64 CPUs without limits; its control groups lie below the folder."""
    (tmp_path / "own").write_text("0::/job/step\n")
    monkeypatch.delenv("SLURM_CPUS_ON_NODE", raising=False)
    monkeypatch.setattr(resources, "CONTROL_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(resources, "OWN_CONTROL_GROUPS", tmp_path / "own")
    monkeypatch.setattr(resources.os, "cpu_count", lambda: 64)
    monkeypatch.setattr(resources.os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    return tmp_path


def group(machine: Path, name: str, **files: str) -> None:
    folder = machine / "groups" / name
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        (folder / file.replace("__", ".")).write_text(text + "\n")


def test_the_cpus_of_a_machine_without_limits(machine: Path) -> None:
    group(machine, "job/step", cpu__max="max 100000")
    assert machine_cpus() == 64


@pytest.mark.parametrize(
    ("own", "name", "files", "cpus"),
    [
        ("0::/job/step", "job/step", {"cpu__max": "400000 100000"}, 4),
        ("0::/job/step", "job", {"cpu__max": "250000 100000"}, 2),  # of a group around it; no part of a CPU
        ("0::/", ".", {"cpu__max": "800000 100000"}, 8),  # a container
        ("0::/docker/5f", ".", {"cpu__max": "800000 100000"}, 8),  # a container that sees its path on the host
        ("0::/", ".", {"cpu__max": "50000 100000"}, 2),
        ("4:cpu,cpuacct:/pod", "cpu,cpuacct/pod", {"cpu__cfs_quota_us": "300000", "cpu__cfs_period_us": "100000"}, 3),
        ("4:cpu:/pod\n0::/", "cpu", {"cpu__cfs_quota_us": "600000", "cpu__cfs_period_us": "100000"}, 6),
        ("4:cpu:/pod", "cpu/pod", {"cpu__cfs_quota_us": "-1", "cpu__cfs_period_us": "100000"}, 64),
        ("9:memory:/pod", "memory/pod", {"cpu__max": "300000 100000"}, 64),
        ("4:cpu:/\n0::/job", "unified/job", {"cpu__max": "500000 100000"}, 5),
    ],
)
def test_quotas_of_control_groups_hold(machine: Path, own: str, name: str, files: dict[str, str], cpus: int) -> None:
    (machine / "own").write_text(own + "\n")
    group(machine, name, **files)
    assert machine_cpus() == cpus


@pytest.mark.parametrize(("allowed", "cpus"), [(6, 6), (2, 2), (1, 2)])
def test_cpus_that_a_process_may_not_run_on_do_not_count(
    machine: Path, monkeypatch: pytest.MonkeyPatch, allowed: int, cpus: int
) -> None:
    group(machine, "job/step", cpu__max="900000 100000")
    monkeypatch.setattr(resources.os, "sched_getaffinity", lambda _: set(range(allowed)))
    assert machine_cpus() == cpus


@pytest.mark.parametrize(("told", "cpus"), [("4", 4), ("1", 2), ("12", 9), ("", 9), ("0", 9), ("4(x2)", 9)])
def test_a_job_of_slurm_has_the_cpus_that_slurm_says(
    machine: Path, monkeypatch: pytest.MonkeyPatch, told: str, cpus: int
) -> None:
    group(machine, "job/step", cpu__max="900000 100000")
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", told)
    assert machine_cpus() == cpus


def test_stated_cpus_go_before_what_is_found(machine: Path) -> None:
    group(machine, "job/step", cpu__max="400000 100000")
    assert (machine_cpus(1), machine_cpus(16)) == (1, 16)


def test_no_more_cpus_than_ray_finds_itself() -> None:
    assert machine_cpus() <= max(2, get_num_cpus())
