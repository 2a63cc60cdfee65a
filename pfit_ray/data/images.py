"""The one place where bytes become pixels, and label maps become PNG bytes."""

import importlib
import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffTags, features

from pfit_ray.constants import voc_palette
from pfit_ray.errors import RowError

with suppress(ImportError):  # installing it is enough: it gives Pillow the format HEIF
    importlib.import_module("pillow_heif").register_heif_opener()

SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif", ".avifs"),
    "HEIF": (".heic", ".heif", ".hif"),
}
"""Endings of file names, in lower case, by Pillow's format. Its other readers are left out, as some run programs."""

_OPTIONAL = {
    "AVIF": (features.check("avif"), "a Pillow that has AVIF"),
    "HEIF": ("HEIF" in Image.OPEN, "the package pillow-heif"),
}
FORMATS = tuple(name for name in SUFFIXES if _OPTIONAL.get(name, (True,))[0])
"""What is decoded on this machine."""
IMAGE_SUFFIXES = tuple(suffix for name in FORMATS for suffix in SUFFIXES[name])
"""Endings of the files that are decoded on this machine."""
_FORMATS_TOLD = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC"

MAX_MASK_PIXELS = 1_000_000_000

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURNED = (5, 6, 7, 8)
_PALETTE = voc_palette().tobytes()
_PNG_DEPTH_BYTE = 24
_TILE_WIDTH, _TILE_LENGTH = 322, 323
_header_lock = threading.Lock()


class DrawnLabels(NamedTuple):
    """A label map as it is drawn in a PNG."""

    values: NDArray[np.uint8] | None
    """Values (H, W); None where it is drawn in colours."""
    palette: NDArray[np.uint32] | None
    """Colours 0xRRGGBB of the values from 0, of a palette PNG."""
    colours: NDArray[np.uint32]
    """Colours 0xRRGGBB (H, W) of an RGB PNG."""


def decode_image(data: bytes, max_pixels: int) -> NDArray[np.uint8]:
    """Decode an image into RGB.

    The EXIF orientation is applied. Transparent pixels are laid over white. The first frame of an animation counts, as
    does that of a phone's JPEG with several images (MPO). 16-bit grey is scaled to 8 bit; 32-bit and floating point
    grey keeps the scale 0..1 (float only), 0..255 or 0..65535 that its values fit in, and is stretched from minimum
    to maximum otherwise.

    Args:
        data: bytes of a JPEG, PNG, WebP, GIF, BMP or TIFF file, or of an AVIF or HEIC file where Pillow has these.
        max_pixels: larger images are refused from their header, before they are decoded.

    Returns:
        uint8 (H, W, 3).

    Raises:
        RowError: `empty_file`, `too_large`, or `unreadable` for damaged, truncated or other files.
    """
    if not data:
        raise RowError("empty_file", "the file has no bytes")
    try:
        with _opened(data, FORMATS, max_pixels) as image:
            image.load()
            with _quiet(max_pixels):
                orientation = image.getexif().get(ExifTags.Base.Orientation)
            rgb = _to_rgb(image)
            if orientation in _UPRIGHT:
                rgb = rgb.transpose(_UPRIGHT[orientation])
            return np.array(rgb)
    except RowError:
        raise
    except Image.UnidentifiedImageError as error:
        raise RowError("unreadable", _unknown(data)) from error
    except Exception as error:
        raise RowError("unreadable", f"the image cannot be decoded: {_text(error)}") from error


def missing_reader(name: str) -> str | None:
    """What you must install to read files of this name, e.g. "the package pillow-heif"; None where nothing is missing.

    A file whose name is no image's needs nothing.
    """
    found = next((one for one, suffixes in SUFFIXES.items() if name.lower().endswith(suffixes)), "")
    there, wanted = _OPTIONAL.get(found, (True, ""))
    return None if there else wanted


def _unknown(data: bytes) -> str:
    brand = data[8:12].lower() if data[4:8] == b"ftyp" else b""
    name = "AVIF" if brand.startswith(b"avi") else "HEIF" if brand[:2] == b"he" or brand in (b"mif1", b"msf1") else ""
    if name and not _OPTIONAL[name][0]:
        kind = "an AVIF" if name == "AVIF" else "a HEIC"
        return f"this is {kind} image, which needs {_OPTIONAL[name][1]} on every machine; install it, or convert it"
    return f"the bytes are not a {_FORMATS_TOLD} image"


def image_size(data: bytes) -> tuple[int, int] | None:
    """Height and width that `decode_image` finds, from the header; None where only decoding tells, as for a TIFF."""
    formats = tuple(name for name in FORMATS if name != "TIFF")
    try:
        with _opened(data, formats, MAX_MASK_PIXELS) as image, _quiet(MAX_MASK_PIXELS):
            width, height = image.size
            return (width, height) if image.getexif().get(ExifTags.Base.Orientation) in _TURNED else (height, width)
    except Exception:
        return None


def check_size(image_id: str, found: tuple[int, ...] | None, labelled: tuple[int, int]) -> None:
    """Raise a RowError where an image has another size (H, W) than its label map: it has changed since."""
    if found is not None and found != labelled:
        raise RowError(
            "bad_mask",
            f"the image {image_id} has {found[1]} x {found[0]} pixels but its label map {labelled[1]} x {labelled[0]}: "
            "it has changed since it was labelled",
        )


def decode_mask(data: bytes, shape: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Decode a label map: the indices of a palette PNG, or the values of a grey PNG.

    Args:
        data: bytes of the PNG.
        shape: (H, W) that it must have, checked before decoding; None takes any.

    Returns:
        Class ids, uint8 (H, W).

    Raises:
        RowError: `bad_mask`, when it is not such a PNG, is damaged, or has another size.
    """
    return _small(_decode_labels(data, shape, "mask", "class ids", "bad_mask")[0])


def open_label(data: bytes, shape: tuple[int, int] | None = None) -> DrawnLabels:
    """Decode a label map that may be drawn in colours.

    Args:
        data: bytes of a PNG.
        shape: (H, W) that it must have, checked before decoding; None takes any.

    Raises:
        RowError: `bad_mask`, when it is no PNG, is damaged, transparent, or has another size.
    """
    pixels, palette = _decode_labels(data, shape, "mask", "class ids", "bad_mask", colours=True)
    if pixels.ndim == 2:
        return DrawnLabels(_small(pixels), palette, np.zeros((0, 0), np.uint32))
    if pixels.shape[2] == 4 and (pixels[..., 3] != 255).any():
        raise RowError("bad_mask", "the mask is transparent in places; save it without transparency")
    return DrawnLabels(None, None, packed_colours(pixels[..., :3]))


def packed_colours(colours: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """RGB colours (..., 3) as numbers 0xRRGGBB."""
    wide = colours.astype(np.uint32)
    return np.asarray(wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2])


def _small(values: NDArray[Any]) -> NDArray[np.uint8]:
    if values.max(initial=0) > 255:
        raise RowError("bad_mask", f"the mask has the value {values.max()}; class ids are 0 to 255")
    return values.astype(np.uint8)


def decode_regions(data: bytes, shape: tuple[int, int]) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Decode a map of regions: the indices of a palette PNG, or the values of a grey PNG of up to 16 bits.

    Args:
        data: bytes of the PNG.
        shape: (H, W) that it must have, checked before decoding.

    Returns:
        Labels of the regions, uint8 or uint16 (H, W).

    Raises:
        RowError: `bad_regions`, when it is not such a PNG, is damaged, or has another size.
    """
    values, _ = _decode_labels(data, shape, "map of regions", "region ids", "bad_regions")
    return values.astype(np.uint8) if values.max(initial=0) <= 255 else values.astype(np.uint16)


def _decode_labels(
    data: bytes, shape: tuple[int, int] | None, what: str, ids: str, reason: str, colours: bool = False
) -> tuple[NDArray[Any], NDArray[np.uint32] | None]:
    """Values (H, W) and the colours of their palette, if there is one, or with `colours` RGB or RGBA (H, W, C)."""
    palette = None
    try:
        with _opened(data, ("PNG",), MAX_MASK_PIXELS) as image:
            if shape is not None and image.size != shape[::-1]:
                raise RowError(
                    reason,
                    f"the {what} has {image.size[0]} x {image.size[1]} pixels, its image has {shape[1]} x {shape[0]}",
                )
            modes = ("RGB", "RGBA") if colours else ()
            if image.mode not in ("P", "L", "1", "I;16", "I", *modes):
                raise RowError(
                    reason,
                    f"the {what} is a colour image (mode {image.mode}); {ids} are needed: save it as a "
                    "palette PNG (mode P) or as a grey PNG whose values are the ids",
                )
            values = np.asarray(image)
            if image.mode == "P":
                palette = packed_colours(np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3))
    except RowError as error:
        raise RowError(reason, error.message) from error
    except Image.UnidentifiedImageError as error:
        raise RowError(reason, f"the {what} is not a PNG file") from error
    except Exception as error:
        raise RowError(reason, f"the {what} cannot be decoded: {_text(error)}") from error
    depth = data[_PNG_DEPTH_BYTE]
    if image.mode == "L" and depth < 8:
        # Pillow stretches grey of 2 and 4 bits to 0..255.
        values = values // (255 // (2**depth - 1))
    return values, palette


def encode_label(label: NDArray[np.uint8]) -> bytes:
    """Encode a label map, uint8 (H, W), as a palette PNG with the PASCAL VOC colours.

    Equal maps give equal bytes.
    """
    image = Image.fromarray(_checked(label, (np.uint8,)))
    image.putpalette(_PALETTE)
    return _png(image)


def encode_grey(array: NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.bool_]) -> bytes:
    """Encode uint8, uint16 or bool (H, W) as a grey PNG of 8, 16 or 1 bits; no pixels give no bytes."""
    _checked(array, (np.uint8, np.uint16, np.bool_))
    return _png(Image.fromarray(array)) if array.size else b""


def decode_grey(data: bytes) -> NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.bool_]:
    """What `encode_grey` was given: uint8, uint16 or bool (H, W); no bytes give an array of shape (0, 0)."""
    if not data:
        return np.zeros((0, 0), dtype=np.uint8)
    with _opened(data, ("PNG",), MAX_MASK_PIXELS) as image:
        return np.array(image)


@contextmanager
def _opened(data: bytes, formats: tuple[str, ...], max_pixels: int) -> Iterator[Image.Image]:
    """Read the header, refuse what is too large, and leave the decoding to the caller."""
    try:
        with _quiet(max_pixels) as usual_limit:
            image = Image.open(io.BytesIO(data), formats=formats)
            width, height = image.size
            if width * height <= max_pixels and image.format == "TIFF":
                _read_ahead(image, max_pixels, usual_limit)
    except Image.DecompressionBombError as error:
        raise RowError("too_large", f"the image has more than {max_pixels} pixels") from error
    with image:
        if width * height > max_pixels:
            raise RowError("too_large", f"the image has {width} x {height} pixels, more than the {max_pixels} allowed")
        yield image


def _read_ahead(image: Any, max_pixels: int, usual_limit: int | None) -> None:
    """Read what a TIFF's reader checks and warns of while it decodes.

    The image is decoded too where Pillow's own limit would be in the way; other threads wait meanwhile.
    """
    exif = image.getexif()
    for key in TiffTags.TAGS_V2_GROUPS:
        if key in exif:
            exif.get_ifd(key)
    width, height = image.size
    tile = int(image.tag_v2.get(_TILE_WIDTH, width)) * int(image.tag_v2.get(_TILE_LENGTH, height))
    if tile > max_pixels or (usual_limit is not None and max(tile, width * height) > usual_limit):
        image.load()


@contextmanager
def _quiet(max_pixels: int) -> Iterator[int | None]:
    """Silence Pillow's warnings on odd files and let it apply our size limit to what it allocates early.

    Both are settings of the whole process, hence the lock. Yields the limit that held before.
    """
    with _header_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_pixels
        try:
            yield limit
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        return Image.fromarray(_scaled(np.asarray(image, dtype=np.float64), image.mode)).convert("RGB")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _scaled(values: NDArray[np.float64], mode: str) -> NDArray[np.uint8]:
    if not np.isfinite(values).all():
        raise RowError("unreadable", "the image has pixels that are NaN or infinite")
    low, high = values.min(), values.max()
    tops = (1.0, 255.0, 65535.0) if mode == "F" else (255.0, 65535.0)
    top = next((top for top in tops if low >= 0 and high <= top), None)
    if top is None:
        values, top = values - low, max(high - low, 1e-300)
    return np.rint(values * (255.0 / top)).astype(np.uint8)


def _checked(array: NDArray, dtypes: tuple[type, ...]) -> NDArray:
    if array.ndim != 2 or array.dtype not in dtypes:
        wanted = " or ".join(np.dtype(dtype).name for dtype in dtypes)
        raise ValueError(f"a {wanted} array (H, W) is needed, not {array.dtype} {array.shape}")
    return array


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _text(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
