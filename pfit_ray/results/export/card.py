"""The card of an export: what the labels are, how good, by which config, and what is left out."""

import re
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

from pfit_ray.config import RunConfig
from pfit_ray.config.base import Section
from pfit_ray.config.sources import RegionSourceConfig, has_known_options
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.rundir.provenance import describe, describe_versions, provenance

UNKNOWN_LICENSE = "unknown"
METHOD = (
    "seed", "fidelity", "crf_engine", "network_engine", "images", "predicted_labels", "classifier", "cam", "regions",
    "fit", "combine", "affinity_label", "affinitynet", "walk", "pseudo_label", "deeplab", "predict",
)  # fmt: skip
"""Fields and sections of a config that are published: the method, not where anything lies."""
_TEXTS = {"name", "kind", "source"}
"""Free texts in these sections that are published where they are plain names: of backbones and of plug-ins."""
_BY_CLASS = {"zero_shot", "class_thresholds"}
_PLAIN = re.compile(r"[A-Za-z0-9_.-]+")
_SCORES = (
    "images", "miou", "miou_interval", "miou_published", "fp", "fn", "boundary_miou", "iou", "precision", "recall",
    "boundary_iou", "confusion",
)  # fmt: skip
_PROVENANCE = (
    "fidelity", "weights", "scales", "cam_source", "affinity_label", "source", "beta", "exp_times", "radius",
    "pooled_within", "threshold", "crf",
)  # fmt: skip

_WHAT = {
    "pseudo_label": "pseudo labels: class activation maps, a random walk and a dense CRF, thresholded",
    "prediction": "predictions of a segmentation network that was trained on pseudo labels",
}
_READ = {
    "voc": 'PASCAL VOC\'s layout; CVAT reads it, zipped, as "Segmentation mask 1.1", Datumaro as `voc`.',
    "coco": "COCO JSON; a mask is all that an image has of a class, not one object. `pycocotools` reads it.",
    "labelme": "LabelMe; later shapes lie over earlier ones, holes are shapes named `_background_`.",
    "cvat": '"CVAT for images 1.1": make a task of images/, then upload annotations.xml.',
    "png": "labels/ID.png hold class ids, classes.csv their names, images.csv the scores of each image.",
    "yolo": "YOLO segmentation; a line is one region, `ultralytics` trains with data=data.yaml.",
    "fiftyone": "FiftyOne's ImageSegmentationDirectory; see docs/export.md of pfit_ray for scores and tags.",
    "hf": "`datasets.load_dataset(FOLDER)`; `label` holds class ids.",
}


def card(
    config: RunConfig, run: RunDirectory, kind: str, format_name: str, split: str, license_name: str | None,
    counts: dict[str, Any],
) -> str:  # fmt: skip
    """The card as Markdown, with the front matter that Hugging Face reads.

    Args:
        config: the run's config.
        run: the run directory.
        kind: `pseudo_label` or `prediction`.
        format_name: the export's format.
        split: name of the set of images.
        license_name: licence of the images and labels, in the user's words.
        counts: `exported`, `failed` by reason, `unfinished` and `renamed`, see `Exported`.
    """
    names = config.data.class_list.names
    front: dict[str, Any] = {
        "license": license_name or UNKNOWN_LICENSE,
        "task_categories": ["image-segmentation"],
        "tags": ["weakly-supervised", "pfit_ray"],
    }
    if format_name == "hf":
        front["configs"] = [{"config_name": "default", "data_files": [{"split": split, "path": f"data/{split}-*"}]}]
    failed = ", ".join(f"{count} {reason}" for reason, count in sorted(counts["failed"].items())) or "none"
    ids = ", ".join(f"{key} {name}" for key, name in enumerate(names, start=1))
    lines = [
        "---",
        yaml.safe_dump(front, sort_keys=False, allow_unicode=True).rstrip(),
        "---",
        f"# {'Pseudo labels' if kind == 'pseudo_label' else 'Predictions'} by pfit_ray",
        "",
        f"These are {_WHAT[kind]}. A program made them from image-level labels, no person drew them.",
        "",
        f"- Format: {_READ[format_name]}",
        f"- Images: {counts['exported']}. Left out, failed: {failed}; not finished: {counts['unfinished']}.",
        *(
            [f"- {counts['renamed']} have another name here, because ids differed in capital letters alone."]
            if counts["renamed"]
            else []
        ),
        f"- Classes: 0 background, {ids}, 255 unsure.",
        f"- {describe(kind, _public_provenance(provenance(config, run)[kind]))}.",
        f"- {describe_versions(run.read_json('environment.json'))}.",
        "",
        "## Scores",
        "",
        *_scores(run, kind),
        "",
        "## Licence",
        "",
        f"Stated by whoever exported this: {license_name}." if license_name else "None was stated.",
        "The images keep the licences of their source, which pfit_ray does not know; whether labels made from "
        "them may be passed on depends on these. The weights of the networks have licences too.",
        "",
        "## Config",
        "",
        "The numbers of the method; places and the options of plug-ins are left out.",
        "",
        "```yaml",
        yaml.safe_dump(method_document(config), sort_keys=False, allow_unicode=True).rstrip(),
        "```",
        "",
    ]
    return "\n".join(lines)


def method_document(config: RunConfig) -> dict[str, Any]:
    """What of a config is published: numbers, choices and plain names of the method.

    No place, URL or file name is in it, nor what a plug-in is given.
    """
    whole = _published(config)
    return {name: whole[name] for name in METHOD if name in whole} | {"crf_engine": config.used_crf_engine}


def public_scores(scores: dict[str, Any] | None) -> dict[str, Any] | None:
    """What of a map's entry in evaluation.json is published: its numbers, and what they were computed with."""
    if scores is None:
        return None
    told = {name: scores[name] for name in _SCORES if name in scores}
    entry = scores.get("provenance")
    return told if entry is None else told | {"provenance": _public_provenance(entry)}


def _public_provenance(entry: dict[str, Any]) -> dict[str, Any]:
    split = entry["split"]
    told = {"split": "a list of one's own" if re.search(r"[/\\]|\.txt\b", split) else split}
    told |= {name: entry[name] for name in _PROVENANCE if name in entry}
    if "combine" in entry:
        regions = {
            name: {key: value for key, value in source.items() if key != "options"}
            for name, source in entry["combine"]["regions"].items()
        }
        told["combine"] = {**entry["combine"], "regions": regions}
    return told


def _published(section: Section) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            told[name] = _published(value)
        elif isinstance(value, tuple) and value and isinstance(value[0], Section):
            told[name] = [_published(one) for one in value]
        elif _is_public(name, field, value) or (
            name == "options" and isinstance(section, RegionSourceConfig) and has_known_options(section)
        ):
            told[name] = section.model_dump(mode="json", include={name})[name]
    return told


def _is_public(name: str, field: FieldInfo, value: Any) -> bool:
    if isinstance(value, str):
        choices = [choice for one in (field.annotation, *get_args(field.annotation)) if get_origin(one) is Literal
                   for choice in get_args(one)]  # fmt: skip
        if name == "weights":
            return value in ("imagenet", "package", "none")
        return value in choices or (name in _TEXTS and _PLAIN.fullmatch(value) is not None)
    if isinstance(value, dict):
        return name in _BY_CLASS
    if isinstance(value, tuple | list):
        return all(isinstance(one, int | float) for one in value)
    return value is None or isinstance(value, bool | int | float)


def _scores(run: RunDirectory, kind: str) -> list[str]:
    numbers = (run.read_json("evaluation.json") or {}).get(kind)
    if not numbers:
        return ["There was no ground truth to score these labels with."]
    told = [
        f"Against the ground truth of {numbers['images']} images of the run: mIoU {numbers['miou']:.4f} over "
        f"background and the classes that occur, FP {numbers['fp']:.4f}, FN {numbers['fn']:.4f}.",
        "",
        "| class | IoU |",
        "|---|---|",
    ]
    return told + [f"| {name} | {'-' if iou is None else f'{iou:.4f}'} |" for name, iou in numbers["iou"].items()]
