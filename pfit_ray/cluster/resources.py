"""What a cluster has, and what its autoscaler may add to it."""

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import ray
import yaml

from pfit_ray.config.resources import NodeType

BOOTSTRAP_FILE = Path("~/ray_bootstrap_config.yaml")
"""What `ray up` leaves on the head: the cluster's config."""

CONTROL_GROUPS = Path("/sys/fs/cgroup")
OWN_CONTROL_GROUPS = Path("/proc/self/cgroup")
SLURM_CPUS = "SLURM_CPUS_ON_NODE"
"""What a batch script or step of Slurm has of its node; a shell of salloc on another machine is not told it."""

GIBIBYTE = 1 << 30
HEAD_RESOURCE = "node:__internal_head__"
ROUNDING = 1e-9
_OWN_LABELS = "ray.io/"


@dataclass(frozen=True)
class NodeKind:
    """Nodes that are alike: how many there are, and how many more the autoscaler may start."""

    cpus: float
    gpus: float = 0.0
    memory: float | None = None
    """Bytes that Ray may give to workers; None if nobody knows them."""
    labels: tuple[tuple[str, str], ...] = ()
    alive: int = 1
    more: int = 0

    @property
    def count(self) -> int:
        """How many there may be."""
        return self.alive + self.more

    def has(self, labels: Mapping[str, str]) -> bool:
        """Whether these nodes carry the labels."""
        return labels.items() <= dict(self.labels).items()


@dataclass(frozen=True)
class Need:
    """What one worker needs of its node."""

    cpus: float
    gpus: float = 0.0
    memory: float = 0.0
    labels: Mapping[str, str] = field(default_factory=dict)

    def room(self, node: NodeKind, beside: "Need | None" = None) -> int:
        """How many such workers one node holds, beside another one."""
        if not node.has(self.labels):
            return 0
        cpus, gpus, memory = node.cpus, node.gpus, math.inf if node.memory is None else node.memory
        if beside is not None:
            cpus, gpus, memory = cpus - beside.cpus, gpus - beside.gpus, memory - beside.memory
        rooms = [cpus / self.cpus]
        if self.gpus:  # a worker of less than a GPU stays on one
            rooms.append(gpus / self.gpus if self.gpus >= 1 else math.floor(gpus) * math.floor(1 / self.gpus))
        if self.memory:
            rooms.append(memory / self.memory)
        return max(0, math.floor(min(rooms) + ROUNDING))


@dataclass(frozen=True)
class Cluster:
    """The nodes of a cluster by kind."""

    kinds: tuple[NodeKind, ...]

    @classmethod
    def of_one_node(cls, cpus: float, gpus: float = 0.0, memory: float | None = None) -> Self:
        """A machine of its own."""
        return cls((NodeKind(cpus, gpus, memory),))

    @property
    def nodes(self) -> int:
        """Nodes that are there."""
        return sum(kind.alive for kind in self.kinds)

    @property
    def cpus(self) -> float:
        """CPUs of all nodes, those that may be added among them."""
        return sum(kind.cpus * kind.count for kind in self.kinds)

    @property
    def gpus(self) -> float:
        """GPUs likewise."""
        return sum(kind.gpus * kind.count for kind in self.kinds)

    @property
    def memory(self) -> float | None:
        """Bytes for workers likewise; None if those of any node are unknown."""
        sizes = [None if kind.memory is None else kind.memory * kind.count for kind in self.kinds if kind.cpus]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    def __str__(self) -> str:
        alive = [kind for kind in self.kinds if kind.alive]
        told = f"{self.nodes} node(s), {sum(kind.cpus * kind.alive for kind in alive):g} CPU, "
        told += f"{sum(kind.gpus * kind.alive for kind in alive):g} GPU"
        more = sum(kind.more for kind in self.kinds)
        return told + (f"; up to {more} more node(s), {self.cpus:g} CPU and {self.gpus:g} GPU in all" if more else "")


def current_cluster(declared: Sequence[NodeType]) -> Cluster:
    """The cluster as it is now; Ray must be initialised. See `joined_cluster`."""
    return joined_cluster(ray.nodes(), node_id(), declared)


def machine_cpus(stated: int | None = None) -> int:
    """CPUs that a Ray on this machine is given.

    What is stated, or else the least of the machine's CPUs, those that this process may run on (taskset, most Slurm
    jobs), those that Slurm says its job has here, which not every cluster enforces, and the quotas of its control
    groups (a container, a systemd slice), but at least two: a network actor and a CPU task must fit at the same time.
    """
    if stated is not None:
        return stated
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    told = os.environ.get(SLURM_CPUS, "")
    of_job = [int(told)] if told.isdecimal() and int(told) else []
    return max(2, math.floor(min([allowed, *of_job, *_quotas()]) + ROUNDING))


def _quotas() -> Iterator[float]:
    """CPU quotas of the control groups of this process, version 1 or 2, and of those around them.

    In a container the root of the mounted hierarchy is the container's own group, whatever path the kernel tells.
    """
    try:
        lines = OWN_CONTROL_GROUPS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        names = controllers.split(",")
        if controllers and "cpu" not in names:
            continue
        mounts = (CONTROL_GROUPS / "unified", CONTROL_GROUPS)  # version 2, beside version 1 or alone
        if controllers:
            mounts = (CONTROL_GROUPS / controllers, CONTROL_GROUPS / "cpu")
        for mount in mounts:
            group = mount / path.strip("/")
            for folder in (group, *group.parents):
                if folder.is_relative_to(mount):
                    yield from _quota(folder)


def _quota(group: Path) -> list[float]:
    """The CPU quota of one control group, if it has one."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            quota, period = " ".join((group / name).read_text() for name in names).split()
            if float(quota) > 0:
                return [float(quota) / float(period)]
        except (OSError, ValueError):  # no such file, or no quota: "max"
            continue
    return []


def node_id() -> str:
    """Id of the node that this process runs on; Ray must be initialised."""
    return str(ray.get_runtime_context().get_node_id())


def describe_use() -> str:
    """How many of the CPUs and GPUs of the nodes that are there Ray has given to workers, in words.

    One question to Ray's control store; nothing if this process has not joined a Ray.
    """
    if not ray.is_initialized():
        return ""
    there, free = ray.cluster_resources(), ray.available_resources()
    parts = [
        f"{there[name] - free.get(name, 0.0):g} of {there[name]:g} {name}s"
        for name in ("CPU", "GPU")
        if there.get(name)
    ]
    return f"{', '.join(parts)} in use" if parts else ""


def joined_cluster(nodes: Sequence[Mapping[str, Any]], this_node: str, declared: Sequence[NodeType]) -> Cluster:
    """The cluster that this process has joined.

    What its autoscaler may add is what the config declares (`resources.node_types`). Where it declares nothing and this
    process runs on the head of a cluster that `ray up` has started, it is what that cluster's file says.

    Args:
        nodes: `ray.nodes()`.
        this_node: id of the node of this process.
        declared: node types that the config names.
    """
    alive = [node for node in nodes if node["Alive"]]
    types = list(declared)
    at_head = any(node["NodeID"] == this_node and HEAD_RESOURCE in node["Resources"] for node in alive)
    if not types and at_head:
        types = bootstrap_types(BOOTSTRAP_FILE.expanduser())
    return merged(Counter(_alive_kind(node) for node in alive), types)


def merged(alive: Counter[NodeKind], types: Iterable[NodeType]) -> Cluster:
    """Nodes that are there, and node types of which so many may be there at the most, as one cluster.

    A node that is there counts as one of a type when it has the type's CPUs, GPUs and labels.
    """
    kinds: list[NodeKind] = []
    left = Counter(alive)
    for one in types:
        mine = [kind for kind in left if _is_of(kind, one)]
        there = sum(left.pop(kind) for kind in mine)
        memory = None if one.memory_gb is None else one.memory_gb * GIBIBYTE
        known = min((kind.memory for kind in mine if kind.memory is not None), default=memory)
        labels = tuple(sorted(one.labels.items()))
        more = max(0, one.max_nodes - there)
        kinds.append(NodeKind(one.cpus, one.gpus, known, labels, there, more))
    kinds += [NodeKind(kind.cpus, kind.gpus, kind.memory, kind.labels, count) for kind, count in left.items()]
    return Cluster(tuple(kinds))


def bootstrap_types(file: Path) -> list[NodeType]:
    """Node types of the cluster file that `ray up` has left on the head; none if there is no such file.

    Types whose file states no CPUs are left out, because only the provider knows their size.
    """
    try:
        document = yaml.safe_load(file.read_text())
        total = int(document["max_workers"])
        head = document.get("head_node_type")
        types = document["available_node_types"].items()
    except (OSError, KeyError, TypeError, ValueError, AttributeError, yaml.YAMLError):
        return []
    found = []
    for name, one in types:
        has = one.get("resources") or {}
        most = min(total, int(one.get("max_workers", total)))
        if name == head or most < 1 or not has.get("CPU"):
            continue
        memory = has.get("memory")
        found.append(
            NodeType(
                cpus=has["CPU"],
                gpus=has.get("GPU", 0),
                memory_gb=memory / GIBIBYTE if memory else None,
                max_nodes=most,
                labels=one.get("labels") or {},
            )
        )
    return found


def _alive_kind(node: Mapping[str, Any]) -> NodeKind:
    has = node["Resources"]
    labels = {name: value for name, value in node.get("Labels", {}).items() if not name.startswith(_OWN_LABELS)}
    return NodeKind(has.get("CPU", 0.0), has.get("GPU", 0.0), has.get("memory", 0.0), tuple(sorted(labels.items())))


def _is_of(kind: NodeKind, one: NodeType) -> bool:
    return (kind.cpus, kind.gpus) == (one.cpus, one.gpus) and kind.has(one.labels)
