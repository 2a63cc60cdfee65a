"""Score label maps and class maps in files of any origin against ground truth PNGs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from pfit_ray import storage
from pfit_ray.config.data import DataConfig
from pfit_ray.constants import VOC_CLASSES, ClassList
from pfit_ray.data.class_maps import read_class_maps
from pfit_ray.data.label_shards import iterate_shard
from pfit_ray.data.sources.mask_ids import MaskIds, ids_of, mask_lookup
from pfit_ray.data.sources.spill import SeenTexts
from pfit_ray.errors import RowError, UserError
from pfit_ray.results.totals import Totals, summaries
from pfit_ray.storage.threads import prefetch
from pfit_ray.tasks.score import (
    GroundTruthScorer,
    IdsAboveError,
    MapScore,
    above_note,
    classless_note,
    is_classless,
    read_ground_truth,
)

MAX_ARRAY_BYTES = 4 << 30
"""Class maps of more bytes are refused before they are unpacked."""
_READERS = 4
_AHEAD = 16

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 16))
"""0.05 to 0.75, as published."""

Scored = tuple[str, MapScore] | RowError | None
"""The kind of map and its score, what is wrong with the image, or None if it has no ground truth."""


@dataclass(frozen=True)
class FilesRequest:
    """What is scored, and how.

    Args:
        labels: a folder, prefix or file: PNGs of class ids, tar files of such PNGs (PNG shards), and .npz files with
            the arrays `keys` (K,), class ids from 1, and `cam` or `hr_cam` (K, h, w) of any size, and .npy files as
            `pfit_ray.data.class_maps.read_class_maps` knows them. Names without the suffix are image ids.
        truth: folder of ground truth PNGs named like the images, or a VOC folder (with SegmentationClass).
        classes: names of the foreground classes in the order of their ids.
        names: name of a list in the VOC folder's ImageSets/Segmentation, or the path or URL of a list file; None scores
            whatever has ground truth.
        truth_ids: `same`: both have the ids of `classes`; `voc`: the ground truth has VOC's ids.
        keys_from: key of the first foreground class in class maps; None goes by the form of the files.
        thresholds: background values for class maps.
        boundary: width of the boundaries' bands as a share of the image's diagonal; 0 leaves them out.
        bootstrap: draws for the 95 % interval; 0 leaves it out.
        seed: of these draws.
    """

    labels: str
    truth: str
    classes: tuple[str, ...] = VOC_CLASSES
    names: str | None = None
    truth_ids: Literal["same", "voc"] = "same"
    keys_from: Literal[0, 1] | None = None
    thresholds: Sequence[float] = THRESHOLDS
    boundary: float = 0.02
    bootstrap: int = 1000
    seed: int = 0


def evaluate_files(request: FilesRequest) -> dict[str, Any]:
    """Score files, a few at a time; memory holds one shard, and counts.

    Returns:
        As `pfit_ray.runner.scoring_step.evaluate_run`: `label` for label maps, `map` for class maps; `without_truth`
        counts label maps without ground truth, `problems` tells of files that cannot be used.

    Raises:
        UserError: when nothing can be scored, or images of the list are missing.
    """
    truth, names, split = _places(request)
    data = DataConfig(source="voc", root=truth, classes=request.classes)
    lookup = mask_lookup(data) if request.truth_ids == "voc" else np.arange(256, dtype=np.uint8)
    classes = ClassList(request.classes)
    truth_masks = ids_of(classes, _around(truth), lookup, request.truth_ids == "voc")
    label_masks = ids_of(classes, _around(storage.absolute(request.labels)), np.arange(256, dtype=np.uint8))
    classless: list[str] = []
    totals: dict[str, Totals] = {}
    problems: list[str] = []
    above: list[str] = []
    without_truth = 0
    left = None if names is None else set(names)

    def score(file: tuple[str, str, bytes | None]) -> tuple[str, Scored]:
        return file[0], _scored(file, request, truth, truth_masks, label_masks, classless)

    for image_id, found in prefetch(score, _files(request.labels, left), _READERS, _AHEAD):
        if isinstance(found, RowError):
            problems.append(f"{image_id}: {found.message}")
            above += [image_id] if isinstance(found, IdsAboveError) else []
        elif found is None:
            without_truth += 1
        else:
            name, one = found
            totals.setdefault(name, Totals(request.bootstrap, request.seed)).add(one)
    if left:
        some = ", ".join(sorted(left)[:3])
        raise UserError(f"evaluate: {len(left)} images of the list have no file in {request.labels}: {some}")
    if not totals:
        raise UserError(
            f"evaluate: nothing in {request.labels} could be scored against {truth}: {without_truth} files without "
            f"ground truth, {len(problems)} that cannot be used{'; ' + problems[0] if problems else ''}"
        )
    origin = {"split": split, "labels": request.labels, "truth": truth, "fidelity": {}, "weights": {}}
    counted = max(total.images for total in totals.values())
    if len(set(classless)) == counted:
        raise UserError(f"evaluate: no mask in {truth} has a class: {classless_note(sorted(set(classless)))}")
    result = summaries(
        totals, ["background", *request.classes], list(request.thresholds), dict.fromkeys(totals, origin)
    )
    result["without_truth"] = without_truth
    if problems:
        result["problems"] = sorted(problems)
    if classless:
        result["notes"] = [classless_note(sorted(set(classless)))]
    if above:
        result.setdefault("notes", []).append(above_note(sorted(set(above)), len(request.classes), counted))
    return result


def _around(folder: str) -> tuple[str, str]:
    """A folder of masks and the one above it: where a labelmap.txt may lie."""
    return folder, folder.rstrip("/").rpartition("/")[0] or "/"


def _places(request: FilesRequest) -> tuple[str, list[str] | None, str]:
    """Folder of the masks, the wanted images, and what they are called."""
    try:
        DataConfig(source="voc", root=request.truth, classes=request.classes)
    except ValidationError as error:
        text = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise UserError(f"evaluate: {text}") from error
    other = [name for name in request.classes if name not in VOC_CLASSES]
    if request.truth_ids == "voc" and other:
        raise UserError(f"evaluate: the ground truth has VOC's ids, but VOC has no class {other[0]!r}; use its names")
    root = storage.absolute(request.truth)
    for place in (root, storage.absolute(request.labels)):
        if not storage.exists(place):
            raise UserError(f"evaluate: there is no {place}")
    inside = storage.join(root, "SegmentationClass")
    truth = inside if storage.exists(inside) else root
    if request.names is None:
        return truth, None, "all images with ground truth"
    url = request.names
    if "/" not in url and not url.endswith(".txt"):
        url = storage.join(root, "ImageSets", "Segmentation", f"{url}.txt")
    if not storage.exists(url):
        raise UserError(f"evaluate: there is no list {url}")
    lines = storage.read_bytes(url).decode("utf-8-sig").splitlines()
    return truth, [line.split()[0] for line in lines if line.strip()], request.names


def _files(url: str, wanted: set[str] | None) -> Iterator[tuple[str, str, bytes | None]]:
    """Image id, URL and, where it lies in a tar file, content of each file; ids are taken out of `wanted`."""
    seen = SeenTexts()
    for place, _ in storage.list_files(url):
        stem, _, suffix = place.rpartition("/")[2].rpartition(".")
        suffix = suffix.lower()
        if suffix == "tar":
            members: Iterator[tuple[str, bytes | None]] = iterate_shard(place)
        elif suffix in ("png", "npz", "npy"):
            members = iter([(stem, None)])
        else:
            continue
        for image_id, data in members:
            if not seen.add(f"{suffix in ('npz', 'npy')} {image_id}"):
                raise UserError(
                    f"evaluate: {url} has more than one file of the name {image_id!r}, the second in {place}; give one "
                    "folder of label maps, or files with different names"
                )
            if wanted is None:
                yield image_id, place, data
            elif image_id in wanted:
                wanted.discard(image_id)
                yield image_id, place, data


def _scored(
    file: tuple[str, str, bytes | None],
    request: FilesRequest,
    truth_folder: str,
    truth_masks: MaskIds,
    label_masks: MaskIds,
    classless: list[str],
) -> Scored:
    image_id, url, data = file
    if "/" in image_id or "\\" in image_id or image_id in (".", ".."):
        return RowError("bad_id", f"{image_id!r} in {url} is not an image id")
    n_classes = len(request.classes)
    try:
        place = storage.join(truth_folder, f"{image_id}.png")
        if (other := storage.other_case(place)) is not None:
            raise RowError("missing", f"{place} does not exist, but {other}, which is another image's")
        truth = read_ground_truth(place, truth_masks, n_classes)
    except RowError as error:
        return None if error.reason == "missing" and request.names is None else error
    scorer = GroundTruthScorer(truth, n_classes, request.thresholds, request.boundary)
    one = MapScore()
    if is_classless(truth):
        classless.append(image_id)
    try:
        content = storage.fetch(url) if data is None else data
        if data is None and url.lower().endswith((".npz", ".npy")):
            one.add(image_id, *scorer.maps(*_class_maps(content, n_classes, request.keys_from)))
            return "map", one
        one.add(image_id, *scorer.label(label_masks.decode(content, (truth.shape[0], truth.shape[1]))))
        return "label", one
    except RowError as error:
        return error
    except ValueError as error:
        return RowError("bad_mask", f"{url}: {error}")


def _class_maps(data: bytes, n_classes: int, keys_from: Literal[0, 1] | None) -> tuple[np.ndarray, np.ndarray]:
    """Class maps and their ids from the bytes of an .npz file; a ValueError says what is wrong."""
    keys, maps = read_class_maps(data, MAX_ARRAY_BYTES, keys_from)
    if maps.ndim != 3 or keys.shape != (len(maps),) or keys.dtype.kind not in "iu" or maps.dtype.kind != "f":
        raise ValueError(f"cam must be floats (K, h, w) and keys integers (K,), not {maps.shape} and {keys.shape}")
    if len(keys) and (keys.min() < 1 or keys.max() > n_classes):
        raise ValueError(f"keys are {keys.min()} to {keys.max()}; class ids are 1 to {n_classes}")
    if not np.isfinite(maps).all():
        raise ValueError("cam holds NaN or infinity")
    return maps, keys
