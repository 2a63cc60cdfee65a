"""What each step of a run depends on, so that a changed config never mixes with finished results."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pfit_ray import storage
from pfit_ray.config import PASSES, RunConfig
from pfit_ray.config.credentials import is_secret_name, redacted, without_secrets
from pfit_ray.config.stored import completed, is_field, value_before
from pfit_ray.data.sources.label_table import label_files
from pfit_ray.data.sources.voc import list_url
from pfit_ray.errors import UserError
from pfit_ray.rundir.directory import NETWORKS, Network, RunDirectory
from pfit_ray.storage.ranges import open_seekable

_IMAGE_SETS = ("train", "classifier", "predict")
_SOURCE = (
    "data.source", "data.root", "data.table", "data.image_column", "data.id_column", "data.label_column",
    "data.mask_column", "data.tar_ids", "data.tar_first_class", "data.sample", "data.sample_seed", "data.shard",
    "data.classes", "data.labels", "data.masks", "data.annotations", "data.draw_masks", "data.unknown_classes",
    "data.sbd_lists", "shard_size",
)  # fmt: skip

STEP_FIELDS: dict[str, tuple[str, ...]] = {
    "manifest-train": (*_SOURCE, "data.train", "data.score"),
    "manifest-classifier": (*_SOURCE, "data.classifier"),
    "classifier": ("seed", "classifier"),
    "seeds": (
        "fidelity",
        "crf_engine",
        "network_engine",
        "images",
        "predicted_labels",
        "cam",
        "regions",
        "fit",
        "combine",
        "affinity_label",
    ),
    "affinitynet": ("seed", "affinitynet"),
    "labels": ("fidelity", "crf_engine", "network_engine", "walk", "pseudo_label"),
    "deeplab": ("seed", "deeplab"),
    "manifest-predict": (*_SOURCE, "data.predict"),
    "predict": ("fidelity", "crf_engine", "network_engine", "images", "predict"),
}
"""Config fields, or whole sections, that decide a step's result, besides those of the steps before it."""

STEP_FILES: dict[str, tuple[tuple[str, ...], ...]] = {
    **{f"manifest-{name}": (("manifest", name), ("manifest", f"{name}.json")) for name in _IMAGE_SETS},
    **{
        name: (("train", name), ("checkpoints", f"{name}.safetensors"), ("checkpoints", f"{name}.json"))
        for name in NETWORKS
    },
    **{name: ((name,),) for name in PASSES},
}
"""What a step leaves in the run directory."""

REDO_FROM = {
    "data": "manifest-train",
    "classifier": "manifest-classifier",
    "seeds": "seeds",
    "affinitynet": "affinitynet",
    "labels": "labels",
    "deeplab": "deeplab",
    "predict": "manifest-predict",
}
"""First step that `--redo WORD` forgets; all later ones go with it."""


FILES = "files"
"""Entry of a step's record: by URL, the size, version and SHA-256 of the tables and lists that it reads."""

_BLOCK = 1 << 23


def begin_step(run: RunDirectory, config: RunConfig, step: str) -> None:
    """Record the fields that a step depends on, and the tables that it reads, before its first result."""
    record = _fields(config, step)
    if found := {url: told for _, url in _tables(config, step) if (told := _file(url))}:
        record[FILES] = found
    run.write_json(record, "steps", f"{step}.json")


def take_back(run: RunDirectory, step: str) -> None:
    """Forget that a step was begun, if it has left nothing: the mistake that stopped it may be corrected."""
    if not any(storage.exists(run.url(*parts)) for parts in STEP_FILES[step]):
        storage.remove(run.url("steps", f"{step}.json"))


def continued(run: RunDirectory, config: RunConfig) -> RunConfig:
    """The config of a run that goes on: where `network_engine` is null, the one that its first pass was begun with."""
    if config.network_engine is not None:
        return config
    for name in PASSES:
        recorded = run.read_json("steps", f"{name}.json")
        if recorded is not None and config.engine_of(name) != "torch":  # which fidelity or precision ask for
            before = recorded.get("network_engine", value_before("network_engine"))
            return config.model_copy(update={"network_engine": before})
    return config


def check_fresh(run: RunDirectory, config: RunConfig) -> None:
    """Compare the config with what the steps of this run directory were computed with.

    A field that was not there yet stood for what was computed then; see `pfit_ray.config.stored`.

    Raises:
        UserError: names the first field, or table, that differs and what to do.
    """
    for step in STEP_FIELDS:
        recorded = run.read_json("steps", f"{step}.json")
        if recorded is None:
            continue
        redo = next(word for word, first in reversed(REDO_FROM.items()) if _reaches(first, step))
        files = recorded.pop(FILES, {})
        _check_fields(run, step, redo, without_secrets(recorded), _fields(config, step))
        for name, url in _tables(config, step):
            if url in files and _has_changed(url, files[url]):
                raise UserError(
                    f"config: {url} of {name!r} has changed since {step} was computed in {run.root}; restore the old "
                    f"file, choose another output, or add --redo {redo}"
                )


def _check_fields(run: RunDirectory, step: str, redo: str, recorded: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for name in [*now, *sorted(recorded.keys() - now.keys())]:
        if is_secret_name(name.rpartition(".")[2]) and name not in now:
            continue
        before = completed(name, recorded[name]) if name in recorded else value_before(name)
        if before == now.get(name):
            continue
        told = f"config: {name!r} was {before!r} when {step} was computed in {run.root}"
        if is_field(name):
            raise UserError(
                redacted(
                    f"{told} and is now {now.get(name)!r}; restore the old value, choose another output, "
                    f"or add --redo {redo}"
                )
            )
        raise UserError(
            redacted(
                f"{told}, and this version of pfit_ray has no such field; use the version that computed it, choose "
                f"another output, or add --redo {redo}"
            )
        )


def _tables(config: RunConfig, step: str) -> Iterator[tuple[str, str]]:
    """The tables and lists that a listing goes by, each with its field; folders of images are not among them."""
    if not step.startswith("manifest-"):
        return
    data, image_set = config.data, step.removeprefix("manifest-")
    yield from (("data.labels", url) for url in (label_files(data.labels) if data.labels else []))
    for name in ("table", "annotations"):
        if (url := getattr(data, name)) is not None:
            yield f"data.{name}", url
    splits = {f"data.{image_set}.split": (getattr(data, image_set) or data.train).split}
    if image_set == "train":
        splits["data.score"] = data.score
    for name, split in splits.items():
        if split is not None and ("/" in split or split.endswith((".txt", ".json"))):
            yield name, split
        elif split is not None and data.source == "voc":
            yield name, list_url(storage.absolute(data.root or ""), split)
            if split == "train_aug":
                yield from (("data.sbd_lists", url) for url in data.sbd_lists or ())


def _file(url: str) -> dict[str, Any] | None:
    """What tells a file from a later one of the same name; None if there is none, which the listing will say."""
    entry = next(storage.list_entries(url, threads=0), None)
    if entry is None or entry.url != storage.absolute(url):
        return None
    return {"size": entry.size, "version": entry.version, "sha256": _digest(url)}


def _digest(url: str) -> str:
    digest = hashlib.sha256()
    with open_seekable(url, block=_BLOCK) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _has_changed(url: str, recorded: Mapping[str, Any]) -> bool:
    """Whether a file has other bytes; they are read only where its size or version are others."""
    entry = next(storage.list_entries(url, threads=0), None)
    if entry is None or (entry.size, entry.version) == (recorded["size"], recorded["version"]):
        return False
    return entry.size != recorded["size"] or _digest(url) != recorded["sha256"]


def forget(run: RunDirectory, word: str) -> None:
    """Remove a step and all that follow from it, the last first, so that an interruption leaves a whole run.

    See `REDO_FROM` for the words.
    """
    steps = list(STEP_FIELDS)
    for step in reversed(steps[steps.index(REDO_FROM[word]) :]):
        for parts in STEP_FILES[step]:
            storage.remove(run.url(*parts))
        storage.remove(run.url("steps", f"{step}.json"))


def networks_from(word: str, networks: Sequence[Network]) -> list[Network]:
    """Those of some networks that `forget` would remove."""
    return [name for name in networks if _reaches(REDO_FROM[word], name)]


def _reaches(first: str, step: str) -> bool:
    steps = list(STEP_FIELDS)
    return steps.index(first) <= steps.index(step)


def _fields(config: RunConfig, step: str) -> dict[str, Any]:
    # What is used: a run that was begun when null meant something else is not continued.
    document = config.model_dump(mode="json") | {"crf_engine": config.used_crf_engine}
    if step in PASSES:
        document["network_engine"] = config.engine_of(step)
    document["combine"]["mode"] = config.combine_mode
    fg_threshold, bg_threshold = config.affinity_label.thresholds(config.combine_mode)
    document["affinity_label"] |= {"fg_threshold": fg_threshold, "bg_threshold": bg_threshold}
    result: dict[str, Any] = {}
    names = STEP_FIELDS[step]
    if step == "manifest-predict" and config.data.predict is None:
        names = (*names, "data.train")
    for name in names:
        value = document
        for part in name.split("."):
            value = value[part]
        _flatten(name, value, result)
    if step in NETWORKS and getattr(config, step).source != "train":
        unused = (f"{step}.train.", f"{step}.puzzle.")
        result = {name: value for name, value in result.items() if not name.startswith(unused)}
    return result


def _flatten(name: str, value: Any, into: dict[str, Any]) -> None:
    if isinstance(value, dict):
        for key, child in value.items():
            _flatten(f"{name}.{key}", child, into)
    else:
        into[name] = value
