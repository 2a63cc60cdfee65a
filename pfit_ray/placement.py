"""What the workers of a pass take on a cluster, and whether they fit: Ray would wait for ever for what does not."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pfit_ray.cluster import Cluster, Need
from pfit_ray.config import RunConfig
from pfit_ray.config.resources import StageResources
from pfit_ray.errors import UserError
from pfit_ray.memory import WorkerMemory, fit_memory, lowered

LOWER_BY = 0.9
LOWEST_SHARE = 0.01


@dataclass(frozen=True)
class Placement:
    """What one worker of each operator takes on this cluster."""

    fetch_cpus: float
    network_cpus: float
    network_gpus: float
    network_workers: int
    cpu_cpus: float
    memory: WorkerMemory | None = None
    warning: str | None = None
    min_network_workers: int = 1
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Labels that the nodes of `fetch`, `network` and `cpu` workers must have."""

    def describe(self) -> str:
        """One line for people."""
        gpu = f", {self.network_gpus:g} GPU" if self.network_gpus else ""
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
    network = Need(resources.network.cpus, _gpus(resources.network, cluster), 0.0, resources.network.labels)
    cpu = Need(resources.cpu.cpus, 0.0, 0.0, resources.cpu.labels)
    fetch = Need(resources.fetch.cpus, 0.0, 0.0, resources.fetch.labels)
    if cluster.cpus == 0:
        raise UserError(
            "the cluster has no CPUs for workers; add nodes, or say under resources.node_types which nodes its "
            "autoscaler adds"
        )
    for name, need in (("network", network), ("cpu", cpu), ("fetch", fetch)):
        _check_alone(name, need, cluster)
    room = _room(cluster, network, cpu, fetch)
    if room < 1:
        raise UserError(
            f"resources.network.cpus {network.cpus:g} and resources.cpu.cpus {cpu.cpus:g} do not fit together "
            f"into the cluster's {cluster.cpus:g} CPUs; lower one of them"
        )
    least = resources.network.min_workers
    if not network.gpus:  # as many CPU tasks should run as networks
        room = max(min(least, room), room // 2, 1)
    memory, warning = None, None
    if cluster.memory is not None:
        memory, warning = _fit_memory(config, cluster, network, cpu, fetch)
        room = min(room, _room_in_memory(cluster, memory, network, cpu, fetch))
    if room < least:
        raise UserError(
            f"resources.network.min_workers asks for {least} workers of {network.cpus:g} CPUs and {network.gpus:g} "
            f"GPUs, and the cluster has room for {room} beside a CPU task; lower it or add nodes"
        )
    return Placement(
        memory=memory,
        warning=warning,
        fetch_cpus=fetch.cpus,
        network_cpus=network.cpus,
        network_gpus=network.gpus,
        network_workers=min(room, resources.network.workers or room),
        cpu_cpus=cpu.cpus,
        min_network_workers=least,
        labels={"fetch": fetch.labels, "network": network.labels, "cpu": cpu.labels},
    )


def _check_alone(name: str, need: Need, cluster: Cluster) -> None:
    """Check that some node holds one worker, as if it were alone."""
    fitting = [kind for kind in cluster.kinds if kind.has(need.labels)]
    if not fitting:
        labels = ", ".join(f"{key}: {value}" for key, value in need.labels.items())
        raise UserError(
            f"resources.{name}.labels asks for nodes labelled {labels}, and the cluster has none; correct the labels, "
            "or say under resources.node_types which nodes its autoscaler adds"
        )
    gpus = max(kind.gpus for kind in fitting)
    if need.gpus > gpus:
        raise UserError(
            f"resources.{name}.gpus asks for {need.gpus:g} GPUs and the cluster's largest node has {gpus:g}; lower it "
            "or add GPUs"
        )
    cpus = max(kind.cpus for kind in fitting if kind.gpus >= need.gpus)
    if need.cpus > cpus:
        which = "largest node with such GPUs" if need.gpus else "largest node"
        raise UserError(
            f"resources.{name}.cpus asks for {need.cpus:g} CPUs and the cluster's {which} has {cpus:g}; lower it or "
            "take larger nodes"
        )


def _room(cluster: Cluster, network: Need, *others: Need) -> int:
    """How many networks the cluster holds while one task of each other kind, one at a time, runs too."""
    alone = sum(network.room(kind) * kind.count for kind in cluster.kinds)
    rooms = []
    for other in others:
        lost = [network.room(kind) - network.room(kind, other) for kind in cluster.kinds if other.room(kind)]
        rooms.append(alone - min(lost) if lost else 0)
    return min(rooms)


def _fit_memory(
    config: RunConfig, cluster: Cluster, network: Need, cpu: Need, fetch: Need
) -> tuple[WorkerMemory, str | None]:
    needs = {"network": network, "cpu": cpu, "fetch": fetch}
    largest = {
        name: max(kind.memory or 0.0 for kind in cluster.kinds if need.room(kind)) for name, need in needs.items()
    }
    memory, warning = fit_memory(config, network.gpus > 0, cluster.memory or 0.0, largest)
    share = 1.0
    fitted = memory
    while _room(cluster, *_with_memory(fitted, network, cpu, fetch)) < 1 and share > LOWEST_SHARE:
        share *= LOWER_BY  # the whole would do, but not node by node
        fitted = lowered(config, memory, share)
    return fitted, warning


def _room_in_memory(cluster: Cluster, memory: WorkerMemory, network: Need, cpu: Need, fetch: Need) -> int:
    beside = 0 if network.gpus else memory.cpu
    left = (cluster.memory or 0.0) - memory.fetch - memory.cpu
    together = max(1, int(left // (memory.network + beside)))
    return min(together, _room(cluster, *_with_memory(memory, network, cpu, fetch)))


def _with_memory(memory: WorkerMemory, network: Need, cpu: Need, fetch: Need) -> tuple[Need, Need, Need]:
    return (
        replace(network, memory=memory.network),
        replace(cpu, memory=memory.cpu),
        replace(fetch, memory=memory.fetch),
    )


def _gpus(network: StageResources, cluster: Cluster) -> float:
    if network.gpus is not None:
        return network.gpus
    return 1.0 if any(kind.gpus >= 1 for kind in cluster.kinds if kind.has(network.labels)) else 0.0
