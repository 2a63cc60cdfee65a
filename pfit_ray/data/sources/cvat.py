"""Source: "CVAT for images 1.1", an annotations.xml with its folder of images."""

from collections.abc import Iterator
from typing import NamedTuple, NoReturn
from xml.parsers import expat

from pfit_ray import storage
from pfit_ray.config.data import DataConfig
from pfit_ray.data.sources.coco import find_listed, listed_files, outside
from pfit_ray.data.sources.item import Item
from pfit_ray.data.sources.labels import folded
from pfit_ray.data.sources.mask_ids import is_no_class
from pfit_ray.data.sources.notes import Notes
from pfit_ray.data.sources.shapes import Shape, with_shapes
from pfit_ray.errors import UserError
from pfit_ray.storage.ranges import open_seekable

ANNOTATIONS = "annotations.xml"
_CHUNK = 1 << 16
_BLOCK = 1 << 23
_SHAPES = ("mask", "polygon", "box", "polyline", "points", "ellipse", "cuboid", "skeleton", "tag")


class _Image(NamedTuple):
    """An image of the XML: its name, the subset of its task, its size, and its shapes with their height over others."""

    name: str
    subset: str
    size: tuple[int, int]
    shapes: list[tuple[int, Shape]]


def list_cvat(data: DataConfig, notes: Notes) -> Iterator[Item]:
    """The images of CVAT's XML, in its order.

    The labels of an image are those of its shapes and tags; an image without any shows no class, unless there is none
    in the whole file: then the labels are unknown. With `data.draw_masks` ground truth is painted from masks, polygons
    and boxes, by their z_order.

    Args:
        data: the source; `data.root` has annotations.xml, unless `data.annotations` names the file, and the images, in
            `images` or itself.
        notes: is told what is left out.

    Raises:
        UserError: when the XML or the folder is missing, or the XML is damaged or of a video.
    """
    root = storage.absolute(data.root or "")
    url = storage.absolute(data.annotations or storage.join(root, ANNOTATIONS))
    for place in (root, url):
        if not storage.exists(place):
            raise UserError(f"data: there is no {place}; export the task from CVAT as 'CVAT for images 1.1'")
    inside = storage.join(root, "images")
    return _items(data, url, inside if storage.exists(inside) else root, notes)


def _items(data: DataConfig, url: str, folder: str, notes: Notes) -> Iterator[Item]:
    files = listed_files(folder, notes, (url,))
    annotated = any(image.shapes for image in _images(url))
    for image in _images(url):
        if refused := outside(image.name, folder):
            yield refused
            continue
        inside = f"{image.subset}/{image.name}"  # where a project has several subsets
        item = find_listed(files, folder, inside if files.get(folded(inside)) else image.name)
        if annotated:
            shapes = [shape for _, shape in sorted(image.shapes, key=lambda one: one[0])]
            item = with_shapes(data, item, shapes, image.size, notes)
        else:
            notes.add(f"images without a label, because {url} has no annotation at all", item.image_id)
        yield item
    count, first = files.unclaimed()
    if count:
        notes.add(f"images that {url} does not name, left out", first, count=count)


def class_names(url: str) -> tuple[str, ...]:
    """The names of the shapes in the XML that are classes, in its order.

    Raises:
        UserError: when it is damaged.
    """
    names = dict.fromkeys(shape.name for image in _images(url) for _, shape in image.shapes)
    return tuple(name for name in names if not is_no_class(name))


def _images(url: str) -> Iterator[_Image]:
    """The images, as a stream."""
    done: list[_Image] = []
    found = _Images(done)
    try:
        with open_seekable(url, block=_BLOCK) as file:
            while chunk := file.read(_CHUNK):
                found.parser.Parse(chunk)
                yield from done
                done.clear()
            found.parser.Parse(b"", True)
    except (expat.ExpatError, ValueError, KeyError) as error:
        raise UserError(f"data: {url} is not an XML of 'CVAT for images 1.1': {error}") from error


class _Images:
    """Takes the images from the events of an XML parser into a list."""

    def __init__(self, done: list[_Image]) -> None:
        self.done = done
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.image: _Image | None = None

    def _start(self, element: str, told: dict[str, str]) -> None:
        if element == "track":
            raise ValueError("it has tracks of a video; export the task again")
        if element == "image":
            self.image = _Image(told["name"], told.get("subset", ""), (int(told["height"]), int(told["width"])), [])
        elif self.image is not None and element in _SHAPES and "label" in told:
            shape = Shape(told["label"], _segmentation(element, told, self.image.size))
            self.image.shapes.append((int(told.get("z_order", 0)), shape))

    def _end(self, element: str) -> None:
        if element == "image" and self.image is not None:
            self.done.append(self.image)
            self.image = None

    def _refuse(self, *declaration: object) -> NoReturn:
        raise ValueError("it declares a document type")


def _segmentation(element: str, told: dict[str, str], size: tuple[int, int]) -> object:
    if element == "tag":
        return ()
    if element == "mask":
        box = [int(told[name]) for name in ("left", "top", "width", "height")]
        return {"box": box, "runs": [int(run) for run in told["rle"].split(",")]}
    if element == "polygon":
        return [[float(number) for point in told["points"].split(";") for number in point.split(",")]]
    if element == "box":
        left, top, right, bottom = (float(told[name]) for name in ("xtl", "ytl", "xbr", "ybr"))
        return [[left, top, right, top, right, bottom, left, bottom]]
    return None
