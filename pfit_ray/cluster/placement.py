"""What the workers of a pass take on a cluster, and whether they fit: Ray would wait for ever for what does not."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pfit_ray.cluster.memory_estimate import WorkerMemory, fit_memory, lowered
from pfit_ray.cluster.resources import Cluster, Need
from pfit_ray.config import RunConfig
from pfit_ray.config.resources import ResourcesConfig, StageResources
from pfit_ray.errors import UserError

FETCH_SHARE = 0.01
"""Of a fused worker's CPUs, what a task that reads takes: both fit on the same CPUs, and reading mostly waits."""

SAME = ("cpus", "workers", "threads", "labels", "memory_mb")
"""Where `network` and `cpu` say the same of all these, one worker can do both."""

LOWER_BY = 0.9
LOWEST_SHARE = 0.01


@dataclass(frozen=True)
class Placement:
    """What one worker of each operator takes on this cluster; fused, the network's workers do the rest too."""

    fetch_cpus: float
    network_cpus: float
    network_gpus: float
    network_workers: int
    cpu_cpus: float
    memory: WorkerMemory | None = None
    warning: str | None = None
    min_network_workers: int = 1
    fused: bool = False
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Labels that the nodes of `fetch`, `network` and `cpu` workers must have."""

    def describe(self) -> str:
        """One line for people."""
        gpu = f", {self.network_gpus:g} GPU" if self.network_gpus else ""
        if self.fused:
            cpus = self.network_cpus + self.fetch_cpus
            return f"up to {self.network_workers} workers of {cpus:g} CPU{gpu}, each for networks and all the rest"
        return (
            f"networks: up to {self.network_workers} actors of {self.network_cpus:g} CPU{gpu}; "
            f"the rest: tasks of {self.cpu_cpus:g} CPU"
        )


def place(config: RunConfig, cluster: Cluster) -> Placement:
    """Decide what the operators take on a cluster.

    Args:
        config: the run's config.
        cluster: its nodes, and those that it may add. Where the memory of any is unknown, none is reserved.

    Raises:
        UserError: when the least that a pass runs with does not fit: its network workers, and at the same time one
            CPU task.
    """
    resources = config.resources
    if cluster.cpus == 0:
        raise UserError(
            "the cluster has no CPUs for workers; add nodes, or list under resources.node_types the nodes that its "
            "autoscaler adds"
        )
    needs = _needs(resources, cluster)
    network, fetch, fused = needs["network"], needs["fetch"], "cpu" not in needs
    cpu = needs.get("cpu", network)
    room = _room(cluster, **needs)
    if room < 1:
        raise UserError(
            f"resources.network.cpus {network.cpus:g} and resources.cpu.cpus {cpu.cpus:g} do not fit together "
            f"into the cluster's {cluster.cpus:g} CPUs; lower one of them"
        )
    least = resources.network.min_workers
    if not (network.gpus or fused):  # as many CPU tasks should run as networks
        room = max(min(least, room), room // 2, 1)
    memory, warning = None, None
    if cluster.memory is not None:
        memory, warning = _fit_memory(config, cluster, needs)
        room = min(room, _room_in_memory(cluster, memory, needs))
    if room < least:
        raise UserError(
            f"resources.network.min_workers asks for {least} workers of {resources.network.cpus:g} CPUs and "
            f"{network.gpus:g} GPUs, but the cluster has room for {room} beside a CPU task; lower it or add nodes"
        )
    workers = min(room, resources.network.workers or room)
    return Placement(
        memory=memory,
        warning=warning,
        fetch_cpus=fetch.cpus,
        network_cpus=network.cpus,
        network_gpus=network.gpus,
        network_workers=workers,
        cpu_cpus=cpu.cpus,
        min_network_workers=min(workers, max(least, _room_now(cluster, memory, needs))) if fused else least,
        fused=fused,
        labels={"fetch": fetch.labels, "network": network.labels, "cpu": cpu.labels},
    )


def _needs(resources: ResourcesConfig, cluster: Cluster) -> dict[str, Need]:
    """What one worker of each operator needs; without `cpu` where the network's workers do the rest too."""
    gpus = _gpus(resources.network, cluster)
    needs = {
        "network": Need(resources.network.cpus, gpus, 0.0, resources.network.labels),
        "cpu": Need(resources.cpu.cpus, 0.0, 0.0, resources.cpu.labels),
        "fetch": Need(resources.fetch.cpus, 0.0, 0.0, resources.fetch.labels),
    }
    fused = resources.fuse
    if fused is None:
        fused = not gpus and all(getattr(resources.network, name) == getattr(resources.cpu, name) for name in SAME)
    if fused:
        del needs["cpu"]
        needs["fetch"] = replace(needs["fetch"], cpus=FETCH_SHARE * resources.network.cpus)
    for name, need in needs.items():
        _check_alone(name, need, cluster)
    if fused:
        needs["network"] = replace(needs["network"], cpus=resources.network.cpus - needs["fetch"].cpus)
    return needs


def _check_alone(name: str, need: Need, cluster: Cluster) -> None:
    """Check that some node holds one worker, as if it were alone."""
    fitting = [kind for kind in cluster.kinds if kind.has(need.labels)]
    if not fitting:
        labels = ", ".join(f"{key}: {value}" for key, value in need.labels.items())
        raise UserError(
            f"resources.{name}.labels asks for nodes labelled {labels}, but the cluster has none; correct the labels, "
            "or list under resources.node_types the nodes that its autoscaler adds"
        )
    gpus = max(kind.gpus for kind in fitting)
    if need.gpus > gpus:
        raise UserError(
            f"resources.{name}.gpus asks for {need.gpus:g} GPUs, but the cluster's largest node has {gpus:g}; lower it "
            "or add GPUs"
        )
    cpus = max(kind.cpus for kind in fitting if kind.gpus >= need.gpus)
    if need.cpus > cpus:
        which = "largest node with such GPUs" if need.gpus else "largest node"
        raise UserError(
            f"resources.{name}.cpus asks for {need.cpus:g} CPUs, but the cluster's {which} has {cpus:g}; lower it or "
            "use larger nodes"
        )


def _room(cluster: Cluster, network: Need, **others: Need) -> int:
    """How many networks the cluster holds while one task of each other kind, one at a time, runs too."""
    alone = sum(network.room(kind) * kind.count for kind in cluster.kinds)
    rooms = []
    for other in others.values():
        lost = [network.room(kind) - network.room(kind, other) for kind in cluster.kinds if other.room(kind)]
        rooms.append(alone - min(lost) if lost else 0)
    return min(rooms)


def _room_now(cluster: Cluster, memory: WorkerMemory | None, needs: Mapping[str, Need]) -> int:
    """The same on the nodes that are there; all of them start at once, for Ray would leave some of the room unused."""
    there = Cluster(tuple(replace(kind, more=0) for kind in cluster.kinds))
    return max(1, _room(there, **(_with_memory(memory, needs) if memory else needs)))


def _fit_memory(config: RunConfig, cluster: Cluster, needs: Mapping[str, Need]) -> tuple[WorkerMemory, str | None]:
    largest = {
        name: max(kind.memory or 0.0 for kind in cluster.kinds if need.room(kind)) for name, need in needs.items()
    }
    memory, warning = fit_memory(config, needs["network"].gpus > 0, cluster.memory or 0.0, largest)
    share = 1.0
    fitted = memory
    while _room(cluster, **_with_memory(fitted, needs)) < 1 and share > LOWEST_SHARE:
        share *= LOWER_BY  # the whole would do, but not node by node
        fitted = lowered(config, memory, share)
    return fitted, warning


def _room_in_memory(cluster: Cluster, memory: WorkerMemory, needs: Mapping[str, Need]) -> int:
    beside = 0 if needs["network"].gpus else memory.cpu
    left = (cluster.memory or 0.0) - memory.fetch - memory.cpu
    together = max(1, int(left // (memory.network + beside)))
    return min(together, _room(cluster, **_with_memory(memory, needs)))


def _with_memory(memory: WorkerMemory, needs: Mapping[str, Need]) -> dict[str, Need]:
    return {name: replace(need, memory=getattr(memory, name)) for name, need in needs.items()}


def _gpus(network: StageResources, cluster: Cluster) -> float:
    if network.gpus is not None:
        return network.gpus
    return 1.0 if any(kind.gpus >= 1 for kind in cluster.kinds if kind.has(network.labels)) else 0.0
