"""Photographs of an export: their bytes as they are, unless an EXIF tag would turn them away from their labels."""

import io
from typing import NamedTuple

from PIL import ExifTags, Image

from pfit_ray.data.images import FORMATS, SUFFIXES, decode_image
from pfit_ray.errors import RowError

_UPRIGHT = (None, 1)
_SUFFIX = {**{name: suffixes[0] for name, suffixes in SUFFIXES.items()}, "MPO": ".jpg"}
"""A JPEG with several pictures opens as MPO, and is a JPEG for those who look at its first picture alone."""


class Photograph(NamedTuple):
    """An encoded photograph; `unchanged` says that the bytes are the source's own."""

    data: bytes
    suffix: str
    unchanged: bool


def upright_photograph(data: bytes, max_pixels: int) -> Photograph:
    """A photograph whose pixels lie as those of its label map, whether or not a reader knows EXIF.

    A photograph that its EXIF orientation turns is stored upright, as a PNG: nothing is lost.

    Raises:
        RowError: when the bytes are no image any more, or have too many pixels.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            suffix = _SUFFIX[image.format or ""]
            upright = image.getexif().get(ExifTags.Base.Orientation) in _UPRIGHT
    except Exception as error:
        raise RowError("unreadable", f"the file is not an image any more: {error}") from error
    if upright:
        return Photograph(data, suffix, True)
    buffer = io.BytesIO()
    Image.fromarray(decode_image(data, max_pixels)).save(buffer, format="PNG")
    return Photograph(buffer.getvalue(), ".png", False)
