"""The run's class ids of masks, from the values of a PNG or from its colours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pfit_ray import storage
from pfit_ray.config.data import DataConfig
from pfit_ray.constants import BACKGROUND, IGNORE, VOC_CLASSES, ClassList, voc_palette
from pfit_ray.data.coco_masks import PREFIX, draw_masks
from pfit_ray.data.image_bytes import fetch_address
from pfit_ray.data.images import open_label, packed_colours
from pfit_ray.errors import RowError, UserError

LABELMAP = "labelmap.txt"
"""What CVAT, Datumaro and our own export call the list of names and colours beside masks."""
_UNSURE = ("ignored", "ignore", "void", "unlabeled", "unlabelled")
_OTHER = -1
"""A class that the run does not have."""


@dataclass(frozen=True)
class MaskIds:
    """How the masks of a source are understood.

    Args:
        lookup: uint8 (256,), from the values of a mask to the run's class ids; 255 stays 255.
        colours: class id of each colour, 0xRRGGBB.
        names: name of each colour in a labelmap.txt.
        labelmap: URL of that file; None where the colours are VOC's.
    """

    lookup: NDArray[np.uint8]
    colours: Mapping[int, int]
    names: Mapping[int, str]
    labelmap: str | None = None

    def read(self, address: str, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """Class ids of a mask, uint8 (H, W).

        Args:
            address: as `Item.mask_uri`.
            size: (H, W) that it must have.

        Raises:
            RowError: as `fetch_address`; `bad_mask` when it cannot be understood without guessing.
        """
        if address.startswith(PREFIX):
            return np.asarray(self.lookup[draw_masks(address, size)])
        return self.decode(fetch_address(address), size)

    def decode(self, data: bytes, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """`read` of the bytes of a PNG."""
        drawn = open_label(data, size)
        if drawn.values is None:
            used, places = np.unique(drawn.colours, return_inverse=True)
            return self._of_colours(used)[places].reshape(drawn.colours.shape)
        if drawn.palette is None:
            return self._of_values(drawn.values)
        return self._of_palette(drawn.values, drawn.palette)

    def _of_values(self, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
        ids: NDArray[np.uint8] = self.lookup[values]
        if self.labelmap is not None:
            order = np.fromiter(self.colours.values(), np.int16)
            used = np.unique(values)
            used = used[used < len(order)]
            if (order[used] != self.lookup[used]).any():
                raise RowError(
                    "bad_mask",
                    f"the mask has numbers without colours, and {self.labelmap} has another order of classes than "
                    "data.classes; give data.classes that order, or save the mask in the colours of that file",
                )
        return ids

    def _of_palette(self, values: NDArray[np.uint8], colours: NDArray[np.uint32]) -> NDArray[np.uint8]:
        """Indices of a palette are class ids, unless its colours say something else."""
        palette = np.zeros(IGNORE + 1, np.uint32)
        palette[: len(colours)] = colours
        used = np.unique(values)
        if self.labelmap is not None:
            ids = np.zeros(IGNORE + 1, np.uint8)
            ids[used] = self._of_colours(palette[used])
            return ids[values]
        by_colour = [self.colours.get(int(colour)) for colour in palette[used]]
        if None not in by_colour and by_colour != self.lookup[used].tolist():
            wrong = next(n for n, one in zip(used, by_colour, strict=True) if one != self.lookup[n])
            raise RowError(
                "bad_mask",
                f"the mask's palette has VOC's colours at other places than VOC: number {wrong} has the colour of "
                f"class {self.colours[int(palette[wrong])]}, so numbers and colours disagree; save it as an RGB "
                "PNG if the colours are right, or with another palette if the numbers are",
            )
        return self.lookup[values]

    def _of_colours(self, used: NDArray[np.uint32]) -> NDArray[np.uint8]:
        ids = []
        for colour in map(int, used):
            found = self.colours.get(colour)
            told = f"({colour >> 16}, {colour >> 8 & 255}, {colour & 255})"
            if found is None:
                where = f"{self.labelmap} does not name" if self.labelmap else "is none of VOC's for the run's classes"
                remedy = f"add it there, or put the {LABELMAP} of the tool that drew it beside the masks"
                raise RowError(
                    "bad_mask", f"the mask has the colour {told}, which {where}; {remedy}, or save class ids"
                )
            if found == _OTHER:
                raise RowError(
                    "bad_mask",
                    f"the mask has the colour {told} of {self.names[colour]!r}, which is not in data.classes; add it, "
                    "or set data.unknown_classes=ignore to treat it as background",
                )
            ids.append(found)
        return np.array(ids, np.uint8)


def mask_ids(data: DataConfig) -> MaskIds:
    """How the masks of a run's source are understood.

    Colours are those of the labelmap.txt in `data.masks`, or beside it, in `data.root`, or beside the table; without
    one they are VOC's, in the order of the run's classes.

    Raises:
        UserError: when that file is damaged.
    """
    places = [data.masks, data.root, data.table and storage.absolute(data.table).rpartition("/")[0]]
    folders = [storage.absolute(place) for place in places if place and not set("*?[") & set(place)]
    if data.masks:
        folders.insert(1, folders[0].rstrip("/").rpartition("/")[0])
    voc = data.source == "voc" and set(data.class_list.names) <= set(VOC_CLASSES)
    return ids_of(data.class_list, folders, mask_lookup(data), voc or data.unknown_classes == "ignore")


def ids_of(classes: ClassList, folders: Sequence[str], lookup: NDArray[np.uint8], drop: bool = False) -> MaskIds:
    """How the masks in or below some folders are understood.

    Args:
        classes: the run's.
        folders: where a labelmap.txt may lie; the first that is found counts.
        lookup: as `mask_lookup` makes it.
        drop: classes that the run does not have are background.
    """
    found = next((url for folder in folders if storage.exists(url := storage.join(folder, LABELMAP))), None)
    if found is not None:
        names = _read_labelmap(found)
        colours = {colour: _class_id(name, classes, drop) for colour, name in names.items()}
        return MaskIds(lookup, {**colours, 0: colours.get(0, BACKGROUND)}, names, found)
    largest = max(len(classes), int(np.flatnonzero(lookup[:IGNORE] != np.arange(IGNORE)).max(initial=0)))
    palette = packed_colours(voc_palette())
    kept = [*range(largest + 1), IGNORE]
    return MaskIds(lookup, {int(palette[number]): int(lookup[number]) for number in kept}, {})


def mask_lookup(data: DataConfig) -> NDArray[np.uint8]:
    """Table from the values of a mask to the run's class ids: `lookup[mask]`.

    Source voc with some of VOC's own classes, in any order: each class goes to its id in this run, VOC's
    other classes go to background. Everything else, such as your own classes in a VOC folder, keeps its values.
    Values that mean nothing stay too, so that they can be reported.

    Returns:
        uint8 (256,); 255 (ignore) stays 255.
    """
    lookup = np.arange(IGNORE + 1, dtype=np.uint8)
    classes = data.class_list
    if data.source == "voc" and set(classes.names) <= set(VOC_CLASSES):
        for voc_id, name in enumerate(VOC_CLASSES, start=1):
            lookup[voc_id] = classes.ids.get(name, BACKGROUND)
    return lookup


def _class_id(name: str, classes: ClassList, drop: bool) -> int:
    if name in classes.ids:
        return classes.ids[name]
    plain = name.strip("_ ").lower()
    if plain == "background":
        return BACKGROUND
    return IGNORE if is_unsure(name) else BACKGROUND if drop else _OTHER


def is_no_class(name: str) -> bool:
    """Whether a tool's name for pixels or shapes is the background, or `is_unsure`."""
    return name.strip("_ ").lower() == "background" or is_unsure(name)


def labelmap_classes(url: str) -> tuple[str, ...]:
    """The classes in a labelmap.txt, in its order; none where there is no such file."""
    if not storage.exists(url):
        return ()
    return tuple(name for name in _read_labelmap(url).values() if not is_no_class(name))


def is_unsure(name: str) -> bool:
    """Whether a tool's name for pixels or shapes means that they belong to no class for sure."""
    return name.strip("_ ").lower() in _UNSURE


def _read_labelmap(url: str) -> dict[int, str]:
    """Names by colour, in their order: lines of `name:red,green,blue:parts:actions`."""
    names: dict[int, str] = {}
    try:
        lines = storage.read_bytes(url).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{url} is not UTF-8 text; save it as UTF-8") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, _, rest = line.strip().partition(":")
        numbers = [part.strip() for part in rest.partition(":")[0].split(",")]
        if len(numbers) != 3 or not all(
            part.isascii() and part.isdecimal() and int(part) <= IGNORE for part in numbers
        ):
            raise UserError(f"{url}, line {number} must be NAME:RED,GREEN,BLUE:: with numbers from 0 to 255")
        red, green, blue = map(int, numbers)
        colour = red << 16 | green << 8 | blue
        if names.setdefault(colour, name) != name:
            raise UserError(f"{url}: {names[colour]!r} and {name!r} have the same colour; give each its own")
    return names
