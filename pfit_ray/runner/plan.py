"""What a run would do, without doing it."""

import random
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import islice
from typing import cast

import torch

from pfit_ray.cluster.placement import Placement
from pfit_ray.cluster.resources import Cluster, machine_cpus
from pfit_ray.cluster.session import cluster_address, ray_session
from pfit_ray.config import Pass, RunConfig
from pfit_ray.config.data import ImageSetConfig
from pfit_ray.constants import OK, ClassList
from pfit_ray.data.sources.item import Item
from pfit_ray.data.sources.notes import Note, Notes
from pfit_ray.rundir.directory import IMAGE_SET, Network
from pfit_ray.rundir.environment import check_packages
from pfit_ray.rundir.manifest import iterate_manifest, iterate_shards
from pfit_ray.runner import fingerprint
from pfit_ray.runner.calibrate import SAMPLE, calibrate
from pfit_ray.runner.estimate import Cost, Work, describe_estimate, describe_trainings, finished_cost
from pfit_ray.runner.progress import Progress
from pfit_ray.runner.run import Runner, preflight
from pfit_ray.runner.steps import networks_of
from pfit_ray.train.provide import check_networks, check_reviews

FIRST = 100
"""Images of a set that are looked at to say what was understood."""
NOTE_SECONDS = 10.0
"""Seconds of counting between two lines that say how far it is."""


@dataclass
class Count:
    """The size of a set of images, and what was understood of it."""

    images: int = 0
    bytes: int = 0
    unknown_sizes: int = 0
    told: list[str] = field(default_factory=list)
    sample: list[Item] = field(default_factory=list)
    """Images from anywhere in the set, whose label is usable."""

    def describe(self, shard_size: int) -> str:
        """In one phrase, with the shards that they make."""
        size = ""
        if self.unknown_sizes < self.images:
            at_least = "at least " if self.unknown_sizes else ""
            size = f" ({at_least}{_readable(self.bytes)})"
        return f"{self.images} images{size} in {-(-self.images // shard_size)} shards"


def describe_plan(config: RunConfig, address: str | None = None, measure: bool = False) -> Iterator[str]:
    """Lines for people: images, classes, each step with what it still has to do, resources, hours and money.

    The resources are those of the cluster at the address (or of RAY_ADDRESS), else of this machine. What an image takes
    is known where shards are finished; `measure` tries the other passes here, see `calibrate`.

    Sets without a manifest are counted by listing them, as a stream; if that takes long, lines in between say how far
    it is.

    Raises:
        UserError: for every mistake that `run` would stop at before its work.
    """
    runner = Runner(config, Progress())
    config = runner.config
    fingerprint.check_fresh(runner.run_directory, config)
    steps = runner.planner.steps()
    check_packages(config)
    networks = networks_of([step for step in steps if step.todo])
    check_networks(config, networks)
    check_reviews(config, runner.run_directory, networks)
    here, cluster, placement = _find_place(config, address, networks)
    names = config.data.class_list.names
    yield f"output: {runner.run_directory.root}"
    yield f"classes: {len(names)} ({', '.join(names[:8])}{', ...' if len(names) > 8 else ''})"
    yield f"fidelity: {config.fidelity}"
    counted: dict[ImageSetConfig, Count] = {}
    counts: dict[str, Count] = {}
    for step in steps:
        label = step.name if step.kind == "report" else f"{step.kind} {step.name}"
        count, told = "", list[str]()
        if step.kind == "manifest":
            images: ImageSetConfig = getattr(config.data, step.name) or config.data.train
            new = images not in counted
            if new:
                counted[images] = yield from _count(runner, step.name, measure)
            counts[step.name] = counted[images]
            count = f", {counted[images].describe(config.shard_size)}"
            told = counted[images].told if new else []
        yield f"{label}: {step.todo or 'finished'}{count}"
        yield from (f"  {line}" for line in told)
    yield f"{here}: {placement.describe()}"
    todo = [cast(Pass, step.name) for step in steps if step.kind == "pass" and step.todo]
    works = [_work(runner, name, counts[IMAGE_SET[name]]) for name in todo]
    unknown = [work.name for work in works if not isinstance(work.cost, Cost)]
    if measure and unknown:
        yield f"measuring on this machine, about half a minute: {', '.join(unknown)}"
        samples = {name: count.sample for name, count in counts.items()}
        measured = dict(calibrate(config, runner.run_directory, unknown, samples))
        works = [replace(work, cost=measured.get(work.name, work.cost)) for work in works]
    if works:
        yield from describe_estimate(config, here, cluster, placement, works)
        yield from describe_trainings(config, runner.run_directory, networks)


def _work(runner: Runner, name: Pass, count: Count) -> Work:
    """What is left of a pass, and its cost where shards tell it."""
    images = count.images - sum(runner.ledger.counts(name))
    cost = finished_cost(runner.config, runner.run_directory, name)
    shards = -(-count.images // runner.config.shard_size) - len(runner.ledger.shards(name))
    return Work(name, images, shards, cost or "no shard is finished; plan --measure tries some images here")


def _find_place(config: RunConfig, address: str | None, networks: list[Network]) -> tuple[str, Cluster, Placement]:
    """Where a run would work, in words, and its workers there."""
    if cluster_address(address) is None:
        machine = Cluster.of_one_node(machine_cpus(config.resources.cpus), torch.cuda.device_count())
        return "on this machine", machine, preflight(config, machine, networks)
    with ray_session(address, config.resources, verbose=False) as cluster:
        return f"on the cluster ({cluster})", cluster, preflight(config, cluster, networks)


def _count(runner: Runner, image_set: str, with_sample: bool) -> Generator[str, None, Count]:
    """Count a set of images: from its manifest, if there is one, else by listing it."""
    seen = _Seen(runner.config.data.class_list)
    listed = runner.run_directory.read_json("manifest", f"{image_set}.json")
    if listed is not None:
        for row in islice(iterate_manifest(runner.run_directory, image_set), FIRST):
            seen.add(row["image_id"], row["keys"], row["mask_uri"], row["reason"], row["message"])
        notes = [Note(**note) for note in listed.get("notes", ())]
        told = seen.lines(notes)
        sample = _listed_sample(runner, image_set, listed["shards"]) if with_sample else []
        return Count(listed["images"], listed["bytes"], listed["unknown_sizes"], told, sample)
    count, noted, found = Count(), time.monotonic(), Notes()
    chance, good = random.Random(runner.config.seed), 0
    for item in runner.images(image_set, found):
        if count.images < FIRST:
            seen.add(item.image_id, item.keys, item.mask_uri, item.reason, item.message)
        count.images += 1
        count.bytes += item.size or 0
        count.unknown_sizes += item.size is None
        if item.reason is None:  # all good images have the same chance
            good += 1
            place = len(count.sample) if good <= SAMPLE else chance.randrange(good)
            count.sample[place : place + 1] = [item] if place < SAMPLE else []
        if time.monotonic() - noted >= NOTE_SECONDS:
            noted = time.monotonic()
            yield f"manifest {image_set}: counting the images, {count.images} so far"
    count.told = seen.lines(found)
    return count


def _listed_sample(runner: Runner, image_set: str, shards: int) -> list[Item]:
    """Good images of shards from anywhere in a manifest."""
    chosen = sorted(random.Random(runner.config.seed).sample(range(shards), min(SAMPLE, shards)))
    items = []
    for _, rows in iterate_shards(runner.run_directory, image_set, chosen):
        good = [row for row in rows if row["status"] == OK][: -(-SAMPLE // len(chosen))]
        items += [Item(**{one.name: row[one.name] for one in fields(Item)}) for row in good]
    return items


class _Seen:
    """What was understood of the first images of a set."""

    def __init__(self, classes: ClassList) -> None:
        self.class_list = classes
        self.images = 0
        self.classes: Counter[int] = Counter()
        self.kinds: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.examples: dict[str, str] = {}

    def add(
        self, image_id: str, keys: Sequence[int] | None, mask: str | None, reason: str | None, message: str | None
    ) -> None:
        """Look at one image."""
        self.images += 1
        self.kinds["ground truth"] += mask is not None
        if reason is not None:
            self.reasons[reason] += 1
            self.examples.setdefault(reason, f"{image_id}: {message}")
        elif keys is None:
            self.kinds["no label, to be predicted"] += 1
        elif len(keys) == 0:
            self.kinds["none of the classes"] += 1
        else:
            self.classes.update(keys)

    def lines(self, notes: Iterable[Note]) -> list[str]:
        """For people: images by class and by what else they are, those that fail, and the notes of the listing."""
        found = [(self.class_list.name(key), count) for key, count in sorted(self.classes.items())]
        found += [(kind, count) for kind, count in self.kinds.items() if count]
        failed = [
            f"failed, {reason}: {count}, the first is {self.examples[reason]}"
            for reason, count in self.reasons.most_common()
        ]
        told = ", ".join(f"{name} {count}" for name, count in found)
        head = [f"of the first {self.images} images: {told}"] if told else []
        return head + failed + [str(note) for note in notes]


def _readable(count: int) -> str:
    """A number of bytes in the largest unit that it has one of."""
    units = ("bytes", "kB", "MB", "GB", "TB", "PB")
    power = min((len(str(count)) - 1) // 3, len(units) - 1)
    return f"{count / 1000**power:.{min(power, 1)}f} {units[power]}"
