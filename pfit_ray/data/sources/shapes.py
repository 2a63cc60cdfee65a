"""What an annotation tool has drawn on an image: its labels, and its ground truth."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from pfit_ray.config.data import DataConfig
from pfit_ray.constants import BACKGROUND, IGNORE
from pfit_ray.data.coco_masks import pack_masks
from pfit_ray.data.sources.item import Item
from pfit_ray.data.sources.labels import find_class, labelled
from pfit_ray.data.sources.mask_ids import is_unsure
from pfit_ray.data.sources.notes import Notes


class Shape(NamedTuple):
    """One shape: the name of its class, and what `pfit_ray.data.coco_masks.draw_segmentation` draws of it.

    Without a segmentation it has no area, as a point or a line; a label of the whole image has the segmentation ().
    """

    name: str
    segmentation: Any


def with_shapes(data: DataConfig, item: Item, shapes: Sequence[Shape], size: tuple[Any, Any], notes: Notes) -> Item:
    """An image with its labels, the classes of its shapes, and with `data.draw_masks` their areas as ground truth.

    Later shapes lie over earlier ones. Names such as `ignored` and `__ignore__` are no labels, and 255 in the ground
    truth; `_background_` makes holes.

    Args:
        data: the source.
        item: the image.
        shapes: in the order in which they are painted.
        size: height and width of the image, as the file says.
        notes: gets images without ground truth.
    """
    if data.draw_masks:
        item = replace(item, mask_uri=_ground_truth(data, item, shapes, size, notes))
    return labelled(item, data, lambda: [shape.name for shape in shapes if not is_unsure(shape.name)], notes)


def _ground_truth(
    data: DataConfig, item: Item, shapes: Sequence[Shape], size: tuple[Any, Any], notes: Notes
) -> str | None:
    parts = []
    for shape in shapes:
        if shape.segmentation is None:
            notes.add("images without ground truth, because a shape is neither a polygon nor a mask", item.image_id)
            return None
        key = IGNORE if is_unsure(shape.name) else find_class(shape.name, data.class_list) or BACKGROUND
        if shape.segmentation:
            parts.append((key, shape.segmentation))
    if not all(isinstance(side, int) and side > 0 for side in size):
        notes.add("images without ground truth, because their annotations do not have their size", item.image_id)
        return None
    return pack_masks(*size, parts, painted=True)
