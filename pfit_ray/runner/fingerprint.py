"""What each step of a run depends on, so that a changed config never mixes with finished results."""

from collections.abc import Sequence
from typing import Any

from pfit_ray import storage
from pfit_ray.config import RunConfig
from pfit_ray.errors import UserError
from pfit_ray.rundir.directory import NETWORKS, Network, RunDirectory

_SOURCE = (
    "data.source",
    "data.root",
    "data.table",
    "data.image_column",
    "data.id_column",
    "data.tar_ids",
    "data.tar_first_class",
    "data.sample",
    "data.sample_seed",
    "data.shard",
    "data.classes",
    "data.labels",
    "data.masks",
    "data.annotations",
    "data.draw_masks",
    "data.unknown_classes",
    "data.sbd_lists",
    "shard_size",
)

STEP_FIELDS: dict[str, tuple[str, ...]] = {
    "manifest-train": (*_SOURCE, "data.train", "data.score"),
    "manifest-classifier": (*_SOURCE, "data.classifier"),
    "classifier": ("seed", "classifier"),
    "seeds": (
        "fidelity",
        "crf_engine",
        "images",
        "predicted_labels",
        "cam",
        "regions",
        "fit",
        "combine",
        "affinity_label",
    ),
    "affinitynet": ("seed", "affinitynet"),
    "labels": ("fidelity", "crf_engine", "walk", "pseudo_label"),
    "deeplab": ("seed", "deeplab"),
    "manifest-predict": (*_SOURCE, "data.predict"),
    "predict": ("fidelity", "crf_engine", "images", "predict"),
}
"""Config fields, or whole sections, that decide a step's result, besides those of the steps before it."""

STEP_FILES: dict[str, tuple[tuple[str, ...], ...]] = {
    "manifest-train": (("manifest", "train"), ("manifest", "train.json")),
    "manifest-classifier": (("manifest", "classifier"), ("manifest", "classifier.json")),
    "classifier": (
        ("train", "classifier"),
        ("checkpoints", "classifier.safetensors"),
        ("checkpoints", "classifier.json"),
    ),
    "seeds": (("seeds",),),
    "affinitynet": (
        ("train", "affinitynet"),
        ("checkpoints", "affinitynet.safetensors"),
        ("checkpoints", "affinitynet.json"),
    ),
    "labels": (("labels",),),
    "deeplab": (("train", "deeplab"), ("checkpoints", "deeplab.safetensors"), ("checkpoints", "deeplab.json")),
    "manifest-predict": (("manifest", "predict"), ("manifest", "predict.json")),
    "predict": (("predict",),),
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


def begin_step(run: RunDirectory, config: RunConfig, step: str) -> None:
    """Record the fields that a step depends on, before its first result."""
    run.write_json(_fields(config, step), "steps", f"{step}.json")


def take_back(run: RunDirectory, step: str) -> None:
    """Forget that a step was begun, if it has left nothing: the mistake that stopped it may be corrected."""
    if not any(storage.exists(run.url(*parts)) for parts in STEP_FILES[step]):
        storage.remove(run.url("steps", f"{step}.json"))


def check_fresh(run: RunDirectory, config: RunConfig) -> None:
    """Compare the config with what the steps of this run directory were computed with.

    Raises:
        UserError: names the first field that differs and what to do.
    """
    for step in STEP_FIELDS:
        recorded = run.read_json("steps", f"{step}.json")
        if recorded is None:
            continue
        now = _fields(config, step)
        for name in [*now, *sorted(recorded.keys() - now.keys())]:
            if recorded.get(name) != now.get(name):
                redo = next(word for word, first in reversed(REDO_FROM.items()) if _reaches(first, step))
                raise UserError(
                    f"config: {name!r} was {recorded.get(name)!r} when {step} was computed in {run.root} and is "
                    f"now {now.get(name)!r}; set it back, choose another output, or add --redo {redo}"
                )


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
    if not config.data.draw_masks:  # runs that older versions have begun know nothing of it
        result.pop("data.draw_masks", None)
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
