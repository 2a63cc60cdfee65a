"""Thumbnails: the image, its maps and labels over it, its ground truth."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from pfit_ray.config import RunConfig
from pfit_ray.constants import Row
from pfit_ray.data.image_bytes import fetch_image
from pfit_ray.data.images import decode_image, decode_mask
from pfit_ray.data.sources.mask_ids import mask_ids
from pfit_ray.errors import RowError, UserError
from pfit_ray.results.drawing import heat_overlay, label_overlay
from pfit_ray.results.report.gather import Picked
from pfit_ray.rundir.directory import IMAGE_SET, LABEL_COLUMN, RunDirectory
from pfit_ray.rundir.manifest import read_manifest_shard
from pfit_ray.rundir.published import read_label, read_rows
from pfit_ray.tasks.encode import array_from_bytes
from pfit_ray.tasks.score import SCORED_MAPS, read_ground_truth

SIDE = 200
"""Longest side of a thumbnail, in pixels."""
MAX_BYTES = 6000
"""No thumbnail has more, so that 200 images with five pictures each make a page of less than 10 MB."""
_QUALITIES = (60, 40, 20, 5)


def thumbnails(
    config: RunConfig, run: RunDirectory, pass_name: str, shard: int, images: Sequence[Picked]
) -> dict[Picked, list[tuple[str, str]]]:
    """Captions and data URLs of the pictures of some images of one shard, which is read once.

    One caption with an empty URL says why an image has none.
    """
    places = {row["image_id"]: row for row in read_manifest_shard(run, IMAGE_SET[pass_name], shard)}
    columns = ["image_id", "label_offset", "label_size", *SCORED_MAPS[pass_name]]
    rows = {row["image_id"]: row for row in read_rows(run, pass_name, shard, columns, small=True)}
    return {one: _pictures(config, pass_name, places[one.image_id], rows[one.image_id]) for one in images}


def _pictures(config: RunConfig, pass_name: str, place: Row, row: Row) -> list[tuple[str, str]]:
    try:
        image = decode_image(fetch_image(place), config.images.max_pixels)
        pictures = [("image", image)]
        for name in SCORED_MAPS[pass_name]:
            maximum = config.combined_maximum if name == "combined_cam" else 1.0
            values = array_from_bytes(row[name]).max(axis=0, initial=0.0) / maximum
            pictures.append((name.replace("_", " "), heat_overlay(image, values)))
        label = decode_mask(read_label(row), image.shape[:2])
        pictures.append((LABEL_COLUMN[pass_name].replace("_", " "), label_overlay(image, label)))
    except (RowError, UserError, FileNotFoundError) as error:
        return [(f"no pictures: {error}", "")]
    result = [(caption, _data_url(picture)) for caption, picture in pictures]
    return [*result, _ground_truth(config, image, place["mask_uri"])] if place["mask_uri"] else result


def _ground_truth(config: RunConfig, image: np.ndarray, mask_uri: str) -> tuple[str, str]:
    try:
        truth = read_ground_truth(mask_uri, mask_ids(config.data), len(config.data.class_list), image.shape[:2])
    except RowError as error:
        return f"no ground truth: {error}", ""
    return "ground truth", _data_url(label_overlay(image, truth))


def _data_url(picture: np.ndarray) -> str:
    image = Image.fromarray(picture)
    image.thumbnail((SIDE, SIDE))
    data = _webp(image, _QUALITIES[0])
    for quality in _QUALITIES[1:]:
        if len(data) > MAX_BYTES:
            data = _webp(image, quality)
    while len(data) > MAX_BYTES:
        image.thumbnail((image.width * 3 // 4, image.height * 3 // 4))
        data = _webp(image, _QUALITIES[-1])
    return "data:image/webp;base64," + base64.b64encode(data).decode()


def _webp(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality)
    return buffer.getvalue()
