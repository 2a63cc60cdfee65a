"""The card of an export: what the labels are, how good, by which config, and what is left out."""

from typing import Any

import yaml

from pfit_ray.config import RunConfig, resolved_yaml
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.rundir.provenance import describe, describe_versions, provenance

UNKNOWN_LICENSE = "unknown"
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
        license_name: licence of the photographs and labels, in the user's words.
        counts: `exported`, `failed` by reason, `unfinished`, see `Exported`.
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
        f"- Classes: 0 background, {ids}, 255 unsure.",
        f"- {describe(kind, provenance(config, run)[kind])}.",
        f"- {describe_versions(run.read_json('environment.json'))}.",
        "",
        "## Scores",
        "",
        *_scores(run, kind),
        "",
        "## Licence",
        "",
        f"Stated by whoever exported this: {license_name}." if license_name else "None was stated.",
        "The photographs keep the licences of their source, which pfit_ray does not know; whether labels made from "
        "them may be passed on depends on these. The weights of the networks have licences too.",
        "",
        "## Config",
        "",
        "```yaml",
        resolved_yaml(config).rstrip(),
        "```",
        "",
    ]
    return "\n".join(lines)


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
