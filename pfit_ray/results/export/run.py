"""Export a run: its images and label maps, image by image, in a format of another tool."""

import csv
import importlib
import io
import json
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from PIL import ExifTags, Image

from pfit_ray import storage
from pfit_ray.config import RunConfig
from pfit_ray.config.credentials import redacted
from pfit_ray.data.images import FORMATS as IMAGE_FORMATS
from pfit_ray.data.images import SUFFIXES, check_size, decode_image, image_size
from pfit_ray.data.sources.item import hashed_id, is_plain
from pfit_ray.data.sources.spill import SeenTexts
from pfit_ray.errors import RowError, UserError
from pfit_ray.results.export.card import card, method_document, public_scores
from pfit_ray.results.export.items import CHUNK, LabelledImage, labelled_images, score_names
from pfit_ray.results.export.writer import FormatWriter, Target
from pfit_ray.rundir.directory import IMAGE_SET, RunDirectory
from pfit_ray.rundir.finished import Ledger
from pfit_ray.storage.threads import prefetch

FORMATS = {
    "voc": "voc.VocWriter",
    "coco": "coco.CocoWriter",
    "labelme": "labelme.LabelmeWriter",
    "cvat": "cvat.CvatWriter",
    "png": "png.PngWriter",
    "hf": "hf.HuggingFaceWriter",
    "yolo": "yolo.YoloWriter",
    "fiftyone": "fiftyone.FiftyOneWriter",
}
"""The formats and their writers, which are imported when they are used."""

PASS_OF = {"pseudo_label": "labels", "prediction": "predict"}
"""The pass that makes each map that can be exported."""

Images = Literal["copy", "link", "none"]
IMAGES: tuple[Images, ...] = get_args(Images)
ORIGINALS = "originals.csv"
"""The table of every export that leads back to the files that the images were: `image_id`, `file`, `original`."""

_WRITERS = 8
_UPRIGHT = (None, 1)
_SUFFIX = {**{name: suffixes[0] for name, suffixes in SUFFIXES.items()}, "MPO": ".jpg"}
"""Pillow calls a JPEG of several pictures MPO; other readers take it for a JPEG and show the first picture."""
_TOLD = 20
"""Failures that are named one by one."""


@dataclass(frozen=True)
class ExportOptions:
    """What is exported, and how.

    Args:
        format: one of `FORMATS`.
        kind: `pseudo_label` or `prediction`; None takes the pseudo labels, if there are any.
        split: name of the set of images in the export.
        images: `copy` the images, `link` to them where they are files of this machine, or leave them out.
        license: licence that the card states.
        polygons: of `coco`, polygons in place of run lengths.
    """

    format: str
    kind: str | None = None
    split: str = "train"
    images: Images = "copy"
    license: str | None = None
    polygons: bool = False


@dataclass
class Exported:
    """The result of an export.

    Args:
        root: where it lies.
        kind: the map that was exported.
        exported: images in it.
        failed: images left out, by reason: those that failed in the run, and those that could not be exported.
        unfinished: images that the run has not reached yet.
        renamed: images with another name in the export, because another id differs in capital letters alone and many
            file systems would keep one file of both.
        problems: the first images that could not be exported or have another name, a sentence each.
    """

    root: str
    kind: str
    exported: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    unfinished: int = 0
    renamed: int = 0
    problems: list[str] = field(default_factory=list)


def export_run(config: RunConfig, run: RunDirectory, output: str, options: ExportOptions) -> Exported:
    """Export the finished shards of a run; memory holds one shard's label maps and 64 images.

    Args:
        config: the run's config.
        run: the run directory.
        output: a folder or URL, which must be empty or not be there.
        options: see `ExportOptions`.

    Returns:
        What is in it and what is not; `card.json` and `README.md` of the export say the same.

    Raises:
        UserError: in one sentence, when there is nothing to export or the place is taken.
    """
    kind = _checked(run, options)
    pass_name, root = PASS_OF[kind], storage.absolute(output)
    if next(storage.list_entries(root, threads=0), None) is not None:
        raise UserError(f"export: {root} is not empty; give another folder, or remove it first")
    shards = Ledger(run).shards(pass_name)
    done = Exported(root, kind)
    listed = run.read_json("manifest", f"{IMAGE_SET[pass_name]}.json")["images"]
    done.unfinished = listed - shards.total.ok - shards.total.failed
    with tempfile.TemporaryDirectory(prefix="pfit-export-") as scratch:
        scores = tuple(score_names(pass_name))
        target = Target(root, Path(scratch), config.data.class_list, options.split, scores, options.polygons)
        writer = _writer(options.format, target)
        images = labelled_images(run, pass_name, shards, options.images != "none", done.failed)
        names = SeenTexts()
        originals = target.scratch / ORIGINALS
        with originals.open("w", encoding="utf-8", newline="") as table:
            csv.writer(table, lineterminator="\n").writerow(("image_id", "file", "original"))
        while chunk := list(islice(images, CHUNK)):
            for one in chunk:
                if isinstance(one, LabelledImage):
                    _name_apart(one, names, done)
            _write_chunk(writer, chunk, config, options, done)
        writer.finish()
        target.publish(ORIGINALS, originals)
        _write_card(config, run, options, target, done)
    return done


def _checked(run: RunDirectory, options: ExportOptions) -> str:
    if options.format not in FORMATS:
        raise UserError(f"export: there is no format {options.format!r}; choose from {', '.join(FORMATS)}")
    if options.images not in IMAGES:
        raise UserError(f"export: images is {options.images!r}; choose from {', '.join(IMAGES)}")
    if options.polygons and options.format != "coco":
        raise UserError(f"export: polygons need the format coco, not {options.format}")
    if options.kind is not None and options.kind not in PASS_OF:
        raise UserError(f"export: there is no map {options.kind!r} to export; choose from {', '.join(PASS_OF)}")
    if not is_plain(options.split):
        raise UserError(
            f"export: the split {options.split!r} becomes part of file names; use only letters, digits, '_' and '-'"
        )
    kinds = [kind for kind in PASS_OF if run.finished_numbers(PASS_OF[kind])]
    if not kinds or options.kind not in (None, *kinds):
        wanted, other = options.kind or "pseudo_label or prediction", kinds[0] if kinds else "another one"
        raise UserError(f"export: {run.root} has no {wanted} yet; finish its run first, or export {other}")
    return options.kind or kinds[0]


def _writer(name: str, target: Target) -> FormatWriter:
    module, _, class_name = FORMATS[name].partition(".")
    try:
        writer: FormatWriter = getattr(importlib.import_module(f"pfit_ray.results.export.{module}"), class_name)(target)
    except ValueError as error:
        raise UserError(f"export: {error}; choose another format or rename the class") from error
    return writer


def _name_apart(image: LabelledImage, names: SeenTexts, done: Exported) -> None:
    """Give an image another name where its own differs from an earlier one in capital letters alone."""
    if names.add(image.image_id.lower()):
        return
    name = hashed_id(image.image_id, image.image_id)
    done.renamed += 1
    if len(done.problems) < _TOLD:
        done.problems.append(f"{image.image_id}: called {name}, because another id differs in capital letters alone")
    image.image_id = name


def _write_chunk(
    writer: FormatWriter,
    chunk: Sequence[LabelledImage | tuple[str, RowError]],
    config: RunConfig,
    options: ExportOptions,
    done: Exported,
) -> None:
    """Add some images and write their own files, several at a time."""
    files: list[tuple[str, bytes | None, str | None]] = []
    originals = []
    for one in chunk:
        try:
            if isinstance(one, tuple):
                raise one[1]
            name, own = _files(writer, one, config, options)
            files += own
            originals.append((one.image_id, name, original_name(one, config.data.root)))
            done.exported += 1
        except RowError as error:
            image_id = one[0] if isinstance(one, tuple) else one.image_id
            done.failed[error.reason] += 1
            if len(done.problems) < _TOLD:
                done.problems.append(f"{image_id}: {error.message}")

    with (writer.target.scratch / ORIGINALS).open("a", encoding="utf-8", newline="") as table:
        csv.writer(table, lineterminator="\n").writerows(originals)

    def write(file: tuple[str, bytes | None, str | None]) -> None:
        name, data, link = file
        if data is None:
            storage.link(link or "", writer.target.url(name))
        else:
            writer.target.write(name, data)

    for _ in prefetch(write, files, _WRITERS, len(files)):
        pass


def _files(
    writer: FormatWriter, image: LabelledImage, config: RunConfig, options: ExportOptions
) -> tuple[str, list[tuple[str, bytes | None, str | None]]]:
    """The image's file name; and name and content of each of its files, or what the file is a link to."""
    name, folder = f"{image.image_id}.jpg", writer.folder
    files: list[tuple[str, bytes | None, str | None]] = []
    if image.encoded is not None:
        size = image_size(image.encoded) or decode_image(image.encoded, config.images.max_pixels).shape[:2]
        check_size(image.image_id, size, (image.height, image.width))
        upright = upright_image(image.encoded, config.images.max_pixels)
        image.encoded, name = upright.data, image.image_id + upright.suffix
        if folder is not None:
            place = f"{folder}/{name}" if folder else name
            source = _plain_file(image) if upright.unchanged and options.images == "link" else None
            linked = source is not None and storage.is_local(writer.target.root)
            files.append((place, None, source) if linked else (place, upright.data, None))
    return name, [(path, data, None) for path, data in writer.add(image, name).items()] + files


def original_name(image: LabelledImage, root: str | None) -> str:
    """An image's place below the root of the run's images, or the name of its file.

    Behind it stands `#ROW` of a Parquet file or `#OFFSET`, in bytes, of a tar file. Folders above the root, hosts,
    buckets and what signs a URL stay out of it.
    """
    uri = str(image.source["uri"])
    uri = uri if storage.is_local(uri) else uri.partition("?")[0]
    base = storage.absolute(root).rstrip("/") + "/" if root else ""
    name = redacted(uri.removeprefix(base) if base and uri.startswith(base) else uri.rpartition("/")[2])
    inside = [image.source[part] for part in ("row", "offset") if image.source.get(part) is not None]
    return f"{name}#{inside[0]}" if inside else name


class UprightImage(NamedTuple):
    """An image file; `unchanged` says that the bytes are the source's own."""

    data: bytes
    suffix: str
    unchanged: bool


def upright_image(data: bytes, max_pixels: int) -> UprightImage:
    """An image file whose pixels lie as those of its label map, whether or not a reader knows EXIF.

    An image that its EXIF orientation turns is stored upright, as a PNG: nothing is lost.

    Raises:
        RowError: when the bytes are no image any more, or have too many pixels.
    """
    try:
        with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
            suffix = _SUFFIX[image.format or ""]
            upright = image.getexif().get(ExifTags.Base.Orientation) in _UPRIGHT
    except Exception as error:
        raise RowError("unreadable", f"the file is not an image any more: {error}") from error
    if upright:
        return UprightImage(data, suffix, True)
    buffer = io.BytesIO()
    Image.fromarray(decode_image(data, max_pixels)).save(buffer, format="PNG")
    return UprightImage(buffer.getvalue(), ".png", False)


def _plain_file(image: LabelledImage) -> str | None:
    """The image's own file on this machine, if it has one."""
    inside = image.source.get("row") is not None or image.source.get("offset") is not None
    uri = str(image.source["uri"])
    return None if inside or not storage.is_local(uri) or not os.path.isfile(uri) else uri


def _write_card(config: RunConfig, run: RunDirectory, options: ExportOptions, target: Target, done: Exported) -> None:
    counts = {
        "exported": done.exported, "failed": dict(done.failed), "unfinished": done.unfinished, "renamed": done.renamed
    }  # fmt: skip
    text = card(config, run, done.kind, options.format, options.split, options.license, counts)
    evaluation = run.read_json("evaluation.json") or {}
    told = {
        **asdict(options),
        "kind": done.kind,
        **counts,
        "classes": list(config.data.class_list.names),
        "scores": public_scores(evaluation.get(done.kind)),
        "config": method_document(config),
    }
    target.write("card.json", (json.dumps(told, indent=1) + "\n").encode())
    target.write("README.md", text.encode())
