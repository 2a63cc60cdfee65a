"""Config of where the stages run, what they may use, and what happens when workers are lost."""

from typing import Literal, Self

from pydantic import model_validator

from pfit_ray.config.base import Section, option

LABELS_HELP = "Only nodes with these Ray labels get such workers, as in {pool: gpu}."


class StageResources(Section):
    """What one worker of a stage takes."""

    cpus: float = option(1.0, "CPUs of one worker.", gt=0.0)
    gpus: float | None = option(None, "GPUs of one worker; null uses one if the cluster has GPUs, else none.", ge=0.0)
    workers: int | None = option(None, "Upper bound of the workers; null lets Ray use what is free.", ge=1)
    threads: int = option(1, "Threads of one worker.", ge=1, le=64)
    labels: dict[str, str] = option({}, LABELS_HELP)
    memory_mb: int | None = option(
        None,
        "Memory that Ray reserves for one worker; null estimates it from the config's size limits, see docs/memory.md.",
        unit="MiB",
        ge=1,
    )


class FetchResources(StageResources):
    """What one worker that reads images takes."""

    threads: int = option(16, "Images that one worker reads at the same time.", ge=1, le=64)


class NetworkResources(StageResources):
    """What one worker of the networks takes."""

    min_workers: int = option(1, "Workers that start at once and stay; more start when images wait for them.", ge=1)
    batch_size: int | None = option(
        None,
        "The most images of one shape that go through a network together; fewer if the GPU's memory does not "
        "suffice. Null uses 1 on a CPU and 8 on a GPU. Batches change the last digits of the results.",
        unit="images",
        ge=1,
        le=1024,
    )

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.workers is not None and self.min_workers > self.workers:
            raise ValueError(f"min_workers {self.min_workers} is more than workers {self.workers}")
        return self


class TrainResources(Section):
    """What a training takes."""

    workers: int = option(1, "Number of data-parallel workers.", ge=1)
    min_workers: int | None = option(
        None,
        "A training runs with this many workers if there is no room for all; null waits for all. Their number "
        "changes the weights.",
        ge=1,
    )
    labels: dict[str, str] = option({}, LABELS_HELP)
    cpus_per_worker: float | None = option(
        None, "CPUs of one worker; null uses all of a node that has no GPU, else 1.", gt=0.0
    )
    gpus_per_worker: float | None = option(
        None, "GPUs of one worker; null uses one if the cluster has GPUs, else none.", ge=0.0
    )
    backend: Literal["nccl", "gloo"] | None = option(
        None, "How workers exchange gradients; null uses NCCL if they have GPUs, else Gloo."
    )
    loader_threads: int = option(2, "Threads of one worker that decode and augment images.", ge=0, le=64)
    features_mb: int = option(
        1024, "Features of a frozen backbone that one worker keeps for views that come again.", unit="MiB", ge=0
    )
    checkpoint_seconds: float = option(
        10.0, "Checkpoint after every epoch, but leave out those of epochs that follow faster.", unit="seconds", ge=0.0
    )
    max_failures: int = option(3, "Restarts after the loss of a worker.", ge=0)

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(f"min_workers {self.min_workers} is more than workers {self.workers}")
        return self


class NodeType(Section):
    """Nodes that a cluster may add."""

    cpus: float = option(..., "CPUs of a node.", gt=0.0)
    gpus: float = option(0.0, "GPUs of a node.", ge=0.0)
    memory_gb: float | None = option(None, "Memory of a node for Ray's workers; null: unknown.", unit="GiB", gt=0.0)
    max_nodes: int = option(..., "The most nodes of this type.", ge=1)
    labels: dict[str, str] = option({}, "Labels of Ray that these nodes carry.")


class PricesConfig(Section):
    """What machines cost, for the sum that `pfit-ray plan` tells; all of a cluster is paid for the whole time."""

    cpu_hour: float = option(0.0, "Price of a CPU for an hour.", ge=0.0)
    gpu_hour: float = option(0.0, "Price of a GPU for an hour.", ge=0.0)
    node_hour: float = option(0.0, "Price of a node for an hour, besides its CPUs and GPUs.", ge=0.0)
    currency: str = option("", "Stands behind the sum, such as USD.", max_length=16)


class ResourcesConfig(Section):
    """Resources by kind of stage."""

    fetch: FetchResources = option(FetchResources(cpus=0.25, gpus=0.0), "Reading image bytes.")
    network: NetworkResources = option(NetworkResources(), "CAM, edge and segmentation networks, in actors.")
    cpu: StageResources = option(StageResources(gpus=0.0), "Regions, masks, CRF and the writing, in tasks.")
    fuse: bool | None = option(
        None,
        "One worker does the network and all that follows. It gets the resources of `network`, "
        "less a hundredth of the CPUs for reading images, and the threads of `cpu`. As many start at once as "
        "there is room for. Null does this if networks use no GPU and `network` and `cpu` are the same.",
    )
    train: TrainResources = option(TrainResources(), "Trainings.")
    node_types: list[NodeType] = option(
        [],
        "Nodes that the cluster's autoscaler may add, so that a run can tell whether its workers will fit. Not "
        "needed on the head of a `ray up` cluster: the cluster's file says it.",
    )
    prices: PricesConfig = option(PricesConfig(), "What machines cost.")
    cpus: int | None = option(
        None,
        "CPUs of a local Ray; null uses the least of what the machine has, what the process may run on (Slurm, "
        "taskset) and the quota of its control group (a container), but at least two.",
        ge=1,
    )
    object_store_mb: int | None = option(
        None, "Size of the object store of a local Ray; null uses Ray's default.", unit="MiB", ge=80
    )


class FaultsConfig(Section):
    """When an image is blamed for a worker's death or silence."""

    shard_tries: int = option(
        3,
        "A shard that has lost so many workers is taken apart: its images are tried alone.",
        unit="tries",
        ge=1,
        le=100,
    )
    image_tries: int = option(
        2, "An image that has killed so many workers, alone, is recorded as crashed.", unit="tries", ge=1, le=100
    )
    stage_seconds: float = option(
        900.0,
        "A stage that takes longer for one image (or one batch of images) is stuck: its worker ends, as after a crash.",
        unit="seconds",
        gt=0.0,
    )
    silence_seconds: float = option(
        7200.0, "A pass in which nothing at all moves for so long ends with an error.", unit="seconds", gt=0.0
    )
    max_lost_shards: int = option(
        16,
        "A pass ends with an error when more shards than this, and more than a tenth, have used up their tries.",
        ge=0,
    )
