"""Image-level labels from a PASCAL VOC annotation."""

from typing import NoReturn
from xml.etree import ElementTree

from pfit_ray.errors import RowError


class _NoDoctype(ElementTree.TreeBuilder):
    """Refuses documents that declare a type, and with it entities."""

    def doctype(self, *declaration: object) -> NoReturn:
        raise ValueError("it declares a document type")


def object_names(data: bytes) -> list[str]:
    """Class names of the objects in an annotation, in its order, with repetitions.

    Difficult objects count. An object is dropped only if its box, clamped to [0, size - 1] with decimals cut
    off, has zero width or height; an object without a box counts.

    Raises:
        RowError: `no_label`, when the XML is damaged.
    """
    try:
        root = ElementTree.fromstring(data, ElementTree.XMLParser(target=_NoDoctype()))
        size = root.find("size")
        sizes = (0, 0) if size is None else (_number(size, "width"), _number(size, "height"))
        return [_text(entry, "name") for entry in root.findall("object") if _has_area(entry, sizes)]
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise RowError("no_label", f"the annotation is not a valid VOC XML: {error}") from error


def _has_area(entry: ElementTree.Element, sizes: tuple[int, int]) -> bool:
    box = entry.find("bndbox")
    if box is None:
        return True
    for axis, size in zip("xy", sizes, strict=True):
        low, high = (_clamped(_number(box, f"{axis}{side}"), size) for side in ("min", "max"))
        if low == high:
            return False
    return True


def _clamped(value: int, size: int) -> int:
    """The coordinate inside the image; some tools write size 0 if they do not know it."""
    return max(min(value, size - 1) if size > 0 else value, 0)


def _number(entry: ElementTree.Element, name: str) -> int:
    return int(_text(entry, name).partition(".")[0])


def _text(entry: ElementTree.Element, name: str) -> str:
    text = (entry.findtext(name) or "").strip()
    if not text:
        raise ValueError(f"<{entry.tag}> has no <{name}>")
    return text
