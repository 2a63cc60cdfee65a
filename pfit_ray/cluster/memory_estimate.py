"""How much memory one worker of each operator takes, estimated from the config's size limits."""

from collections.abc import Mapping
from dataclasses import dataclass

from pfit_ray.config import Pass, RunConfig
from pfit_ray.constants import PUBLISHED_SOURCES
from pfit_ray.data.region_sources import region_source_class
from pfit_ray.errors import UserError

MEBIBYTE = 1 << 20

LARGEST_PIXELS = 12_000_000
"""The estimates hold for images up to this size, or up to images.max_pixels where that is less."""

FETCH_BASE = 256 * MEBIBYTE
ENCODED_IMAGE = 4 * MEBIBYTE
"""Bytes of one image file, twice, as a shard travels packed beside its parts."""

TORCH_BASE = 600 * MEBIBYTE
"""A worker that has imported torch and holds a network."""

NETWORK_BYTES: dict[Pass, int] = {"seeds": 450, "labels": 450, "predict": 650}
"""Per pixel of what a pass's network sees at once, in float32; measured with EfficientNet-Lite0 and ResNeSt-101."""

USS_BASE = 300 * MEBIBYTE
USS_BYTES = 2200
FUSED_USS_BYTES = 1300
"""Per pixel of the image that is segmented without supervision, by torch's layers and by the fused ones."""

CRF_BYTES = 180
CRF_LABEL_BYTES = 22
"""Per pixel: the lattices of the dense CRF, and what each label adds."""

PIXEL_BYTES = 70
"""Per pixel of an image: its arrays and those of its walk."""

SOURCE_BYTES = 12
"""Per pixel: what each region source beyond the published two adds: labels, connected regions, perimeter, masks."""

SEED_LABELS = 4
"""Background and the classes of an image with many classes, in the CRFs of passes 1 and 2."""


@dataclass(frozen=True)
class WorkerMemory:
    """Bytes that one worker of each operator takes; `cpu` is 0 where the network's workers do the rest too."""

    fetch: int
    network: int
    cpu: int


def worker_memory(config: RunConfig, gpu: bool, fused: bool = False) -> WorkerMemory:
    """The memory that workers take: `resources.*.memory_mb`, or an estimate if it is null.

    Args:
        config: the run's config.
        gpu: whether the networks run on GPUs, where their activations take no memory of the host.
        fused: whether one worker takes a shard through the network and, after it, the rest.
    """
    # Fused workers on CPUs are tasks, as those that read: the same processes do both, and keep their networks.
    base = TORCH_BASE if fused and not gpu else FETCH_BASE
    memory = {"fetch": base + config.shard_size * ENCODED_IMAGE, "network": _network(config, gpu), "cpu": _cpu(config)}
    if fused:
        memory |= {"network": max(memory["network"], memory["cpu"]), "cpu": 0}
    stated = {name: getattr(config.resources, name).memory_mb * MEBIBYTE for name in _stated(config, fused)}
    return WorkerMemory(**memory | stated)


def fit_memory(
    config: RunConfig, gpu: bool, total: float, largest: Mapping[str, float]
) -> tuple[WorkerMemory, str | None]:
    """The memory that workers take on a cluster on which one worker of each operator must fit, or two fused ones.

    Estimates that do not fit are lowered to what there is, because a worker that tries is better than one that
    waits for ever; what the config states is kept.

    Args:
        config: the run's config.
        gpu: whether the networks run on GPUs.
        total: memory of the cluster, in bytes.
        largest: memory of the largest node that takes workers of `fetch`, `network` and, unless workers are fused,
            `cpu`, in bytes.

    Returns:
        The memory, and a sentence for people where estimates were lowered.

    Raises:
        UserError: when what the config states does not fit.
    """
    fused = "cpu" not in largest
    wanted = vars(worker_memory(config, gpu, fused))
    stated = _stated(config, fused)
    for name in stated:
        if wanted[name] > largest[name]:
            raise UserError(
                f"resources.{name}.memory_mb asks for {_mebibytes(wanted[name])}, but the largest node has "
                f"{_mebibytes(largest[name])} for workers; lower it or use larger nodes"
            )
    two = fused and "network" not in stated
    least = {name: size * 2 if two and name == "network" else size for name, size in wanted.items()}
    left = total - sum(least[name] for name in stated)
    estimated = sum(least.values()) - (total - left)
    if left < 0 or (left == 0 and estimated):
        names = " and ".join(f"resources.{name}.memory_mb {wanted[name] // MEBIBYTE}" for name in sorted(stated))
        raise UserError(
            f"{names} leave no room for one worker of each kind in the cluster's {_mebibytes(total)}; lower one of them"
        )
    share = min(1.0, left / estimated) if estimated else 1.0
    fitted = {
        name: size if name in stated else int(min(size * share, largest.get(name, size)))
        for name, size in wanted.items()
    }
    if fitted == wanted:
        return WorkerMemory(**wanted), None
    workers = "two workers and one that reads" if two else "one worker of each kind"
    return WorkerMemory(**fitted), (
        f"Memory: {workers} may take {_mebibytes(sum(least.values()))} on large images, and the cluster "
        f"has {_mebibytes(total)}; they share that, and large images may fail: lower images.max_pixels, or see "
        "docs/memory.md"
    )


def lowered(config: RunConfig, memory: WorkerMemory, share: float) -> WorkerMemory:
    """The same with a share of what is estimated; what the config states is kept."""
    stated = _stated(config, fused=not memory.cpu)
    return WorkerMemory(**{name: size if name in stated else int(size * share) for name, size in vars(memory).items()})


def _stated(config: RunConfig, fused: bool) -> list[str]:
    """Operators whose memory the config states; fused workers go by that of `network`."""
    names = ("fetch", "network") if fused else ("cpu", "fetch", "network")
    return [name for name in names if getattr(config.resources, name).memory_mb is not None]


def _mebibytes(size: float) -> str:
    return f"{size / MEBIBYTE:,.0f} MiB"


def _network(config: RunConfig, gpu: bool) -> int:
    held = TORCH_BASE + config.shard_size * ENCODED_IMAGE
    if gpu:
        return held + (config.resources.network.batch_size or 8) * PIXEL_BYTES * _pixels(config, None)
    seen: dict[Pass, int] = {
        "seeds": _scaled(config, _limit(config, "cam"), max(config.cam.scales)),
        "labels": _pixels(config, _limit(config, "walk")),
        "predict": int(_pixels(config, _limit(config, "predict")) * max(config.predict.scales) ** 2),
    }
    mirrored = 2
    largest = max(mirrored * NETWORK_BYTES[name] * seen[name] for name in config.passes)
    return held + (config.resources.network.batch_size or 1) * largest


def _cpu(config: RunConfig) -> int:
    n_classes = len(config.data.class_list)
    label_crf = _crf(_pixels(config, None), min(SEED_LABELS, n_classes + 1))
    stages = {
        "seeds": max(_regions(config), label_crf),
        "labels": label_crf,
        "predict": _crf(_pixels(config, _limit(config, "predict")), n_classes + 1),
    }
    further = max(0, len(config.region_names) - len(PUBLISHED_SOURCES))
    arrays = (PIXEL_BYTES + SOURCE_BYTES * further) * _pixels(config, None)
    return TORCH_BASE + config.shard_size * ENCODED_IMAGE + arrays + max(stages[name] for name in config.passes)


def _regions(config: RunConfig) -> int:
    """What the most expensive region source takes, and the CNN that merges its regions."""
    uss, reference = config.regions.uss, config.fidelity_of("regions") == "reference"
    side = None if reference else uss.max_side
    cnn = FUSED_USS_BYTES if uss.fused and not reference else USS_BYTES
    largest = 0
    for name in config.region_names:
        source = config.regions.source(name)
        kind = region_source_class(source)
        largest = max(largest, kind.bytes_per_pixel * _pixels(config, side if kind.reads_pixels else None))
        if source.merged:
            largest = max(largest, USS_BASE + cnn * _pixels(config, side))
    return largest


def _crf(pixels: int, labels: int) -> int:
    return pixels * (CRF_BYTES + CRF_LABEL_BYTES * labels)


def _limit(config: RunConfig, stage: str) -> int | None:
    side: int | None = getattr(config, stage).max_side
    return None if config.fidelity_of(stage) == "reference" else side  # type: ignore[arg-type]


def _pixels(config: RunConfig, side: int | None) -> int:
    largest = min(config.images.max_pixels, LARGEST_PIXELS)
    return largest if side is None else min(largest, side * side)


def _scaled(config: RunConfig, side: int | None, scale: float) -> int:
    """Pixels of the largest image at a scale, where `side` limits the scaled image."""
    scaled = int(_pixels(config, None) * scale**2)
    return scaled if side is None else min(scaled, side * side)
