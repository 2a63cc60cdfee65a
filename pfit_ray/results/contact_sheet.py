"""Contact sheets: everything that a run knows of one image, in one picture."""

from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np

from pfit_ray import storage
from pfit_ray.config import RunConfig
from pfit_ray.constants import OK, Row, voc_palette
from pfit_ray.data.image_bytes import fetch_image
from pfit_ray.data.images import decode_grey, decode_image, decode_mask
from pfit_ray.data.sources.mask_ids import mask_ids
from pfit_ray.errors import RowError, UserError, last_line
from pfit_ray.ops.regions.reference_perimeter import canny_edges, jpeg_round_trip
from pfit_ray.ops.regions.reference_perimeter import region_picture as published_picture
from pfit_ray.ops.regions.region_maps import perimeter_map
from pfit_ray.results.drawing import Tile, compose_sheet, heat_overlay, label_overlay, mask_overlay, region_picture
from pfit_ray.rundir.directory import IMAGE_SET, RunDirectory
from pfit_ray.rundir.manifest import find_images, read_manifest_shard
from pfit_ray.rundir.published import read_label, read_rows
from pfit_ray.tasks.encode import array_from_bytes


def contact_sheet(
    config: RunConfig, run: RunDirectory, image_id: str, places: Mapping[str, Mapping[str, int]] | None = None
) -> bytes:
    """Draw one image's sheet: image, maps, regions, perimeters, masks, labels, prediction, ground truth.

    Args:
        config: the run's config.
        run: the run directory.
        image_id: the image; what its passes have not made yet is left out.
        places: its shard by image set and id; None looks for it.

    Returns:
        The bytes of a PNG file.

    Raises:
        UserError: when the run does not know the image, or its file cannot be read any more.
    """
    found = {
        image_set: (shards[image_id], _row(run, image_set, shards[image_id], image_id))
        for image_set, shards in (_places(run, [image_id]) if places is None else places).items()
        if image_id in shards
    }
    if not found:
        raise UserError(f"show: {run.root} has no image {image_id!r}; its manifest tables list the image ids")
    manifest_row = next(iter(found.values()))[1]
    if manifest_row["status"] != OK:
        raise UserError(f"show: {image_id!r} failed when the images were listed: {manifest_row['message']}")
    try:
        image = decode_image(fetch_image(manifest_row), config.images.max_pixels)
    except RowError as error:
        raise UserError(f"show: the image {image_id!r} cannot be read: {error.message}") from error
    tiles = [Tile("photograph", image)]
    results: dict[str, Row] = {}
    for pass_name, image_set in IMAGE_SET.items():
        if image_set in found:
            try:
                row = _result(run, pass_name, found[image_set][0], image_id, image.shape[:2])
            except RowError as error:
                raise UserError(f"show: the results of {image_id!r} cannot be read: {error.message}") from error
            if row is not None:
                results[pass_name] = row
    if "seeds" in results:
        tiles += _seed_tiles(config, image, results["seeds"])
    if "labels" in results:
        tiles += _label_tiles(image, results["labels"])
    if "predict" in results:
        tiles.append(Tile("prediction", label_overlay(image, results["predict"]["label"])))
    tiles += _ground_truth_tile(config, image, found)
    return compose_sheet(_title(config, image_id, manifest_row, results), _legend(config, results), tiles)


def write_sheets(config: RunConfig, run: RunDirectory, count: int) -> list[str]:
    """Draw the sheets of the first good images of each pass into the run directory.

    Returns:
        A sentence for each sheet, or pass, that could not be drawn; this never fails a run that has its results.
    """
    ids: dict[str, str] = {}  # the first of ids that differ in capital letters alone: a file system may hold one file
    problems = []
    for pass_name in config.passes:
        try:
            for image_id in islice(_good_ids(run, pass_name), count):
                ids.setdefault(image_id.lower(), image_id)
        except Exception as error:
            problems.append(f"no contact sheets of pass {pass_name}: {last_line(error)}")
    places = _places(run, list(ids.values())) if ids else {}
    for image_id in ids.values():
        try:
            storage.write_bytes(sheet_url(run, image_id), contact_sheet(config, run, image_id, places))
        except Exception as error:
            problems.append(f"no contact sheet of {image_id}: {last_line(error)}")
    return problems


def sheet_url(run: RunDirectory, image_id: str) -> str:
    """Where the sheet of an image lies."""
    return run.url("sheets", f"{image_id}.png")


def _good_ids(run: RunDirectory, pass_name: str) -> Iterator[str]:
    for shard in run.finished_numbers(pass_name):
        yield from (row["image_id"] for row in read_rows(run, pass_name, shard, ["image_id"], small=True))


def perimeters(config: RunConfig, regions: np.ndarray) -> np.ndarray:
    """The perimeters of regions (H, W) as the run's fidelity finds them: bool (H, W)."""
    if config.fidelity_of("fit") != "reference":
        return perimeter_map(regions)
    numbers = config.fit.published
    published = jpeg_round_trip(published_picture(regions.astype(np.uint8), seed=numbers.colour_seed))
    edges = canny_edges(published, low=numbers.canny_low, high=numbers.canny_high, blur=numbers.blur)
    return np.asarray(edges > 0)


def _places(run: RunDirectory, image_ids: Collection[str]) -> dict[str, dict[str, int]]:
    """The shards of some images, by image set and id."""
    return {name: find_images(run, name, image_ids) for name in dict.fromkeys(IMAGE_SET.values())}


def _row(run: RunDirectory, image_set: str, shard: int, image_id: str) -> Row:
    """The manifest row of an image; of two rows with its id the first."""
    return next(row for row in read_manifest_shard(run, image_set, shard) if row["image_id"] == image_id)


def _result(run: RunDirectory, pass_name: str, shard: int, image_id: str, size: tuple[int, int]) -> Row | None:
    """What a pass wrote of an image of this size, with its label map as `label`."""
    if run.published(pass_name, shard) is None:
        return None
    for row in read_rows(run, pass_name, shard):
        if row["image_id"] == image_id:
            return {**row, "label": decode_mask(read_label(row), size)}
    return None


def _seed_tiles(config: RunConfig, image: np.ndarray, row: Row) -> list[Tile]:
    size = image.shape[:2]
    names = config.region_names
    regions = {source: decode_grey(row[f"regions_{source}"]).astype(np.uint16) for source in names}
    tiles = [Tile("CAM", _heat(image, row["cam"]))]
    tiles += [Tile(f"regions, {source}", region_picture(regions[source])) for source in names]
    for source in names:
        perimeter = perimeters(config, regions[source])
        picture = np.repeat(np.where(perimeter, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
        tiles.append(Tile(f"perimeters, {source}", picture))
    for source in names:
        masks = decode_grey(row[f"fit_mask_{source}"]).reshape(-1, *size).astype(bool)
        tiles.append(Tile(f"fit mask, {source}", mask_overlay(image, masks)))
    tiles.append(Tile("combined CAM", _heat(image, row["combined_cam"], config.combined_maximum)))
    tiles.append(Tile("affinity label (pale: unsure)", label_overlay(image, row["label"])))
    return tiles


def _label_tiles(image: np.ndarray, row: Row) -> list[Tile]:
    return [
        Tile("edge", heat_overlay(image, array_from_bytes(row["edge"]))),
        Tile("random walk", _heat(image, row["walk"])),
        Tile("pseudo label", label_overlay(image, row["label"])),
    ]


def _ground_truth_tile(config: RunConfig, image: np.ndarray, found: dict[str, tuple[int, Row]]) -> list[Tile]:
    uri = next((row["mask_uri"] for _, row in found.values() if row["mask_uri"]), None)
    if uri is None:
        return []
    try:
        truth = mask_ids(config.data).read(uri, image.shape[:2])
    except RowError as error:
        raise UserError(f"show: the ground truth {uri} cannot be used: {error.message}") from error
    return [Tile("ground truth", label_overlay(image, truth))]


def _heat(image: np.ndarray, data: bytes, maximum: float = 1.0) -> np.ndarray:
    """The strongest class of a stored map, in [0, maximum], over the image."""
    maps = array_from_bytes(data)
    return heat_overlay(image, maps.max(axis=0, initial=0.0) / maximum)


def _title(config: RunConfig, image_id: str, manifest_row: Row, results: dict[str, Row]) -> str:
    keys = manifest_row["keys"]
    predicted = keys is None
    if predicted and "seeds" in results:
        keys = results["seeds"]["keys"]
    names = ", ".join(config.data.class_list.name(key) for key in keys or []) or "no class"
    return f"{image_id}: {names}{' (predicted)' if predicted else ''}"


def _legend(config: RunConfig, results: dict[str, Any]) -> list[tuple[str, tuple[int, int, int]]]:
    keys = sorted({key for row in results.values() for key in row["keys"]})
    palette = voc_palette()
    colours = [tuple(int(value) for value in palette[key]) for key in keys]
    names = [config.data.class_list.name(key) for key in keys]
    return [(name, (red, green, blue)) for name, (red, green, blue) in zip(names, colours, strict=True)]
