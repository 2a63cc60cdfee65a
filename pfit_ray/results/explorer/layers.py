"""Pictures of one image: the image itself, and every stage as a layer over it."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import pyarrow.compute as pc
from PIL import Image

from pfit_ray.config import PASSES, RunConfig
from pfit_ray.constants import BACKGROUND, Row
from pfit_ray.data.image_bytes import fetch_image
from pfit_ray.data.images import decode_grey, decode_image, decode_mask, image_size
from pfit_ray.data.sources.mask_ids import mask_ids
from pfit_ray.errors import RowError, UserError
from pfit_ray.ops.regions.region_maps import perimeter_map
from pfit_ray.results.contact_sheet import perimeters
from pfit_ray.results.drawing import heat_picture, label_picture, region_picture
from pfit_ray.results.explorer.index import FAILED, OK, Index
from pfit_ray.rundir.directory import IMAGE_SET, LABEL_COLUMN, RunDirectory, ShardFiles
from pfit_ray.rundir.manifest import read_manifest_shard
from pfit_ray.rundir.published import read_failures, read_label, read_published
from pfit_ray.storage.ranges import read_columns
from pfit_ray.tasks.encode import array_from_bytes
from pfit_ray.tasks.score import read_ground_truth

SIDE = 1280
"""Longest side of a picture on an image's page, in pixels."""
SMALL_SIDE = 224
OPACITY = 0.65
"""Opacity of a layer in small pictures, and at first on an image's page."""

_LINE = (255, 235, 0)
_PLACE = ["label_offset", "label_size"]
_MAPS = {"cam": "seeds", "combined_cam": "seeds", "walk": "labels"}
"""Maps with a value for each class, and the passes that write them."""
_LABELS = {label: name for name, label in LABEL_COLUMN.items()}
_NAMES = {"cam": "CAM", "combined_cam": "combined CAM", "walk": "random walk"}


@dataclass(frozen=True)
class Layer:
    """One picture of a stage; `class_id` is None for the strongest class of a map, and for what has no classes."""

    stage: str
    class_id: int | None = None


class UnknownLayerError(LookupError):
    """A stage or class that the run or the image does not have."""


def caption(layer: Layer, config: RunConfig) -> str:
    """What a layer shows, in words."""
    kind, _, source = layer.stage.partition("@")
    name = _NAMES.get(kind, kind.replace("_", " ")) + (f", {source}" if source else "")
    return name if layer.class_id is None else f"{name}: {config.data.class_list.name(layer.class_id)}"


class Pictures:
    """Draws the images of a run.

    Args:
        config: the run's config.
        index: its images.
    """

    def __init__(self, config: RunConfig, index: Index) -> None:
        self.config = config
        self.index = index
        self.run: RunDirectory = index.run
        self.ids = mask_ids(config.data)

    def layers(self, row: int) -> list[Layer]:
        """The layers of an image, in the order of the stages."""
        return list(self._layers(row))

    def image(self, row: int, side: int = SIDE) -> bytes:
        """The image as a JPEG, at most `side` pixels long.

        Raises:
            RowError: when it cannot be read.
        """
        return _encode(self._decoded(self._place(row), side), "JPEG")

    def layer(self, row: int, layer: Layer) -> tuple[bytes, str]:
        """A layer in the image's size, a picture with transparency where nothing is to be shown, and its type.

        Raises:
            UnknownLayerError: when there is no such layer.
            RowError: when it or the image cannot be read.
        """
        image = self._decoded(self._place(row), SIDE)
        picture = self._draw(row, layer, image.shape[:2])
        if (picture[..., 3] == 255).all():
            return _encode(picture[..., :3], "JPEG"), "image/jpeg"
        return _encode(picture, "PNG"), "image/png"

    def small(self, row: int, layer: Layer | None) -> bytes:
        """A small JPEG of the image under a layer, or of the image alone.

        Raises:
            UnknownLayerError: as `layer`.
            RowError: as `layer`.
        """
        image = self._decoded(self._place(row), SMALL_SIDE)
        if layer is not None:
            picture = self._draw(row, layer, image.shape[:2])
            weight = picture[..., 3:].astype(np.float32) * (OPACITY / 255)
            image = np.round(image * (1 - weight) + picture[..., :3] * weight).astype(np.uint8)
        return _encode(image, "JPEG")

    def failures(self, row: int) -> list[Row]:
        """What went wrong with an image: `pass`, `stage`, `reason` and `message`."""
        image_id = self.index.ids[row].as_py()
        found = []
        place = self._place(row)
        if place["reason"]:
            found.append({"pass": "source", "stage": "list", "reason": place["reason"], "message": place["message"]})
        for name in PASSES:
            shard = self.index.shard(name, row)
            if shard is not None and self.index.status_of(name, row) == FAILED:
                with _readable():
                    failed = read_failures(self.run, name, shard)
                found += [one for one in failed if one["image_id"] == image_id and one["reason"] != place["reason"]]
        return found

    def _layers(self, row: int) -> Iterator[Layer]:
        done = {name for name in PASSES if self.index.status_of(name, row) == OK}
        keys = self._keys(row)
        if "seeds" in done:
            yield from _class_layers("cam", keys)
            for kind in ("regions", "perimeters", "fit_mask"):
                yield from (Layer(f"{kind}@{source}") for source in self.config.region_names)
            yield from _class_layers("combined_cam", keys)
            yield Layer("affinity_label")
        if "labels" in done:
            yield Layer("edge")
            yield from _class_layers("walk", keys)
            yield Layer("pseudo_label")
        if "predict" in done:
            yield Layer("prediction")
        if self.index.has_ground_truth[row]:
            yield Layer("ground_truth")

    def _keys(self, row: int) -> list[int]:
        """Classes of the stored maps."""
        if self.index.status_of("seeds", row) != OK:
            return []
        return [int(key) for key in self._result("seeds", row, ["keys"])["keys"]]

    def _draw(self, row: int, layer: Layer, size: tuple[int, int]) -> np.ndarray:
        """A layer as uint8 RGBA (H, W, 4)."""
        kind, _, source = layer.stage.partition("@")
        if kind in _MAPS:
            return _opaque(heat_picture(self._map(row, kind, layer.class_id), size))
        if kind == "edge":
            return _opaque(heat_picture(array_from_bytes(self._result("labels", row, ["edge"])["edge"]), size))
        if kind in _LABELS:
            name = _LABELS[kind]
            return _label(decode_mask(read_label(self._result(name, row, _PLACE))), size)
        if kind == "ground_truth":
            return _label(self._ground_truth(row), size)
        if source not in self.config.region_names:
            raise UnknownLayerError(f"the run has no stage {layer.stage!r}")
        if kind == "fit_mask":
            return self._masks(row, source, size)
        regions = decode_grey(self._result("seeds", row, [f"regions_{source}"])[f"regions_{source}"])
        if kind == "regions":
            return _opaque(region_picture(_nearest(regions, size)))
        if kind == "perimeters":
            lines = perimeters(self.config, regions)
            return _painted(cv2.resize(lines.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA) > 0.1, _LINE)
        raise UnknownLayerError(f"the run has no stage {layer.stage!r}")

    def _map(self, row: int, kind: str, class_id: int | None) -> np.ndarray:
        found = self._result(_MAPS[kind], row, ["keys", kind])
        maps = array_from_bytes(found[kind]).astype(np.float32)
        if kind == "combined_cam":
            maps /= self.config.combined_maximum
        if class_id is None:
            return np.asarray(maps.max(axis=0, initial=0.0))
        if class_id not in found["keys"]:
            raise UnknownLayerError(f"the image has no map of class {class_id}")
        return np.asarray(maps[found["keys"].index(class_id)])

    def _masks(self, row: int, source: str, size: tuple[int, int]) -> np.ndarray:
        """Dark where no class has its mask."""
        column = f"fit_mask_{source}"
        found = self._result("seeds", row, ["height", "width", column])
        masks = decode_grey(found[column]).reshape(-1, found["height"], found["width"])
        return _painted(_nearest(np.asarray(masks.any(axis=0)), size) == 0, (0, 0, 0))

    def _ground_truth(self, row: int) -> np.ndarray:
        place = self._place(row)
        if not place["mask_uri"]:
            raise UnknownLayerError("the image has no ground truth")
        size = image_size(fetch_image(place))
        return read_ground_truth(place["mask_uri"], self.ids, len(self.config.data.class_list), size)

    def _decoded(self, place: Row, side: int) -> np.ndarray:
        image = decode_image(fetch_image(place), self.config.images.max_pixels)
        height, width = image.shape[:2]
        scale = side / max(height, width)
        if scale >= 1:
            return image
        size = max(1, round(width * scale)), max(1, round(height * scale))
        return cv2.resize(image, size, interpolation=cv2.INTER_AREA)

    def _place(self, row: int) -> Row:
        """The image's row of the manifest."""
        image_id = self.index.ids[row].as_py()
        for name in PASSES:
            shard = self.index.shard(name, row)
            if shard is not None:
                for place in read_manifest_shard(self.run, IMAGE_SET[name], shard):
                    if place["image_id"] == image_id:
                        return place
        raise RowError("missing", f"the manifest does not list {image_id!r} any more; start the explorer again")

    def _result(self, name: str, row: int, columns: list[str]) -> Row:
        """Some columns of what a pass wrote of an image."""
        shard = self.index.shard(name, row)
        if shard is not None and self.index.status_of(name, row) == OK:
            image_id = self.index.ids[row].as_py()
            with _readable():
                found = read_published(self.run, name, shard, partial(_find, image_id, columns))
            if found is not None:
                return found
        raise UnknownLayerError(f"pass {name} has no result of this image")


def _class_layers(stage: str, keys: list[int]) -> Iterator[Layer]:
    """The strongest class, then each class where there are several."""
    yield Layer(stage)
    if len(keys) > 1:
        yield from (Layer(stage, key) for key in keys)


@contextmanager
def _readable() -> Iterator[None]:
    """What is wrong with a shard is a matter of the image that is looked at."""
    try:
        yield
    except (OSError, UserError) as error:
        raise RowError("io_error", str(error)) from error


def _find(image_id: str, columns: list[str], files: ShardFiles) -> Row | None:
    """Some columns of an image's row, with the URL of its label map."""
    table = read_columns(files.rows.url, ["image_id", *columns], files.rows.size)
    if lacking := set(columns) - set(table.column_names):
        raise RowError("missing", f"{files.rows.url} has no column {', '.join(lacking)}")
    place = pc.index(table["image_id"], image_id).as_py()
    return None if place < 0 else {**table.slice(place, 1).to_pylist()[0], "label_url": files.labels.url}


def _label(label: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Classes in their colours with white borders; background is transparent."""
    label = _nearest(label, size)
    picture = _opaque(label_picture(label))
    picture[label == BACKGROUND, 3] = 0
    picture[perimeter_map(label)] = 255
    return picture


def _painted(where: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    picture = np.zeros((*where.shape, 4), np.uint8)
    picture[where] = (*colour, 255)
    return picture


def _opaque(picture: np.ndarray) -> np.ndarray:
    return np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)])


def _nearest(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    values = values.astype(np.uint8) if values.dtype == np.bool_ else values
    return np.asarray(cv2.resize(values, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT))


def _encode(picture: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    options = {"quality": 88} if kind == "JPEG" else {"compress_level": 3}
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, kind, **options)
    return buffer.getvalue()
