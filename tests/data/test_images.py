import io
import struct
import threading
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from pfit_ray.constants import voc_palette
from pfit_ray.data.images import (
    FORMATS,
    IMAGE_SUFFIXES,
    decode_grey,
    decode_image,
    decode_mask,
    decode_regions,
    encode_grey,
    encode_label,
    image_size,
    missing_reader,
)
from pfit_ray.errors import RowError

LIMIT = 1_000_000
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encoded(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=file_format, **options)
    return buffer.getvalue()


def picture(array: Any, mode: str | None = None) -> Image.Image:
    image = Image.fromarray(np.asarray(array, dtype=np.uint8))
    return image if mode is None else image.convert(mode)


def png(width: int, height: int, depth: int, colour: int, rows: list[bytes]) -> bytes:
    """A PNG written by hand, for what Pillow does not write."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def refused(function: Callable[..., object], *arguments: Any) -> RowError:
    with pytest.raises(RowError) as caught:
        function(*arguments)
    return caught.value


def test_a_tiff_is_decoded_while_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    decoding, go_on, real = threading.Event(), threading.Event(), TiffImagePlugin.TiffImageFile.load
    tiff, other = (encoded(picture([[RED, GREEN]]), file_format) for file_format in ("TIFF", "PNG"))

    def load(image: Any) -> Any:
        decoding.set()
        assert go_on.wait(30)
        return real(image)

    monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "load", load)
    found: list[np.ndarray] = []
    slow = threading.Thread(target=lambda: found.append(decode_image(tiff, LIMIT)))
    slow.start()
    assert decoding.wait(30)
    fast = threading.Thread(target=lambda: found.append(decode_image(other, LIMIT)))
    fast.start()
    fast.join(20)
    at_once = len(found)
    go_on.set()
    slow.join()
    fast.join()
    assert at_once == 1
    assert (found[0] == found[1]).all()


@pytest.mark.parametrize("limit", [100, 10_000])
def test_a_tiff_beyond_pillow_s_own_limit(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The config's limit counts alone: in both directions, and for tiles that are larger than their image."""
    data = encoded(picture(np.zeros((20, 30, 3))), "TIFF")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    if limit == 100:
        assert refused(decode_image, data, limit).reason == "too_large"
    else:
        assert decode_image(data, limit).shape == (20, 30, 3)
    assert Image.MAX_IMAGE_PIXELS == 50


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF", "GIF"])
def test_rgb_is_kept(file_format: str) -> None:
    data = encoded(picture([[RED, GREEN, BLUE]]), file_format)
    image = decode_image(data, LIMIT)
    assert image.dtype == np.uint8
    assert image.flags.writeable
    assert image.tolist() == [[list(RED), list(GREEN), list(BLUE)]]


LOSSY = [
    "JPEG",
    "WEBP",
    pytest.param("AVIF", marks=pytest.mark.skipif("AVIF" not in FORMATS, reason="this Pillow has no AVIF")),
    pytest.param("HEIF", marks=pytest.mark.skipif("HEIF" not in FORMATS, reason="pillow-heif is not installed")),
]


@pytest.mark.parametrize("file_format", LOSSY)
def test_lossy_formats(file_format: str) -> None:
    data = encoded(Image.new("RGB", (16, 8), (200, 30, 60)), file_format, quality=95)
    image = decode_image(data, LIMIT)
    assert image.shape == (8, 16, 3)
    assert np.abs(image.astype(int) - (200, 30, 60)).max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP"])
def test_orientation_is_applied(orientation: int, file_format: str) -> None:
    upright = np.array([[0, 40, 80], [120, 160, 200]], dtype=np.uint8)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if file_format == "WEBP" else {}
    data = encoded(picture(stored, "RGB"), file_format, exif=exif, **options)
    np.testing.assert_array_equal(decode_image(data, LIMIT)[:, :, 0], upright)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_size_from_the_header_is_that_of_the_pixels(orientation: int, file_format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.new("RGB", (30, 20)), file_format, exif=exif)
    assert image_size(data) == decode_image(data, LIMIT).shape[:2]


def test_size_that_the_header_does_not_tell() -> None:
    assert image_size(b"no picture") is None
    assert image_size(b"") is None
    assert image_size(encoded(Image.new("RGB", (30, 20)), "TIFF")) is None


def test_jpeg_orientation() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_image(encoded(Image.new("RGB", (30, 20)), "JPEG", exif=exif), LIMIT).shape == (30, 20, 3)


def test_damaged_exif_is_ignored() -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\x03\0"
    data = encoded(Image.new("RGB", (30, 20)), "JPEG", exif=exif)
    assert decode_image(data, LIMIT).shape == (20, 30, 3)


def test_grey_and_bilevel() -> None:
    assert decode_image(encoded(picture([[0, 7, 255]])), LIMIT).tolist() == [[[0] * 3, [7] * 3, [255] * 3]]
    assert decode_image(encoded(picture([[0, 255]], "1")), LIMIT).tolist() == [[[0] * 3, [255] * 3]]


def test_cmyk() -> None:
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    for file_format in ("TIFF", "JPEG"):
        pixels = decode_image(encoded(image, file_format), LIMIT).astype(int)
        assert np.abs(pixels - RED).max() <= 8


@pytest.mark.parametrize(
    ("mode", "file_format"),
    [("RGBA", "PNG"), ("RGBA", "TIFF"), ("RGBA", "WEBP"), ("LA", "PNG"), ("LA", "TIFF")],
)
def test_transparent_pixels_lie_over_white(mode: str, file_format: str) -> None:
    image = Image.new("RGBA", (3, 1))
    for x, alpha in enumerate((0, 255, 51)):
        image.putpixel((x, 0), (0, 0, 0, alpha))
    options = {"lossless": True, "exact": True} if file_format == "WEBP" else {}
    data = encoded(image.convert(mode), file_format, **options)
    assert decode_image(data, LIMIT)[0, :, 0].tolist() == [255, 0, 204]


@pytest.mark.parametrize("transparency", [None, 1, b"\xff\x00\xff"])
def test_palette(transparency: int | bytes | None) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8))
    image.putpalette([*RED, *GREEN, *BLUE])
    options: dict[str, Any] = {} if transparency is None else {"transparency": transparency}
    middle = GREEN if transparency is None else WHITE
    assert decode_image(encoded(image, **options), LIMIT).tolist() == [[list(RED), list(middle), list(BLUE)]]


def test_colour_key_transparency() -> None:
    data = encoded(picture([[RED, GREEN]]), transparency=RED)
    assert decode_image(data, LIMIT).tolist() == [[list(WHITE), list(GREEN)]]


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled(file_format: str) -> None:
    image = Image.fromarray(np.array([[0, 128, 129, 257, 32768, 65535]], dtype=np.uint16))
    assert decode_image(encoded(image, file_format), LIMIT)[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]


def test_big_endian_sixteen_bit_grey() -> None:
    image = Image.frombytes("I;16B", (2, 1), b"\xff\xff\x01\x01")
    assert decode_image(encoded(image, "TIFF"), LIMIT)[0, :, 0].tolist() == [255, 1]


def test_sixteen_bit_rgb() -> None:
    data = png(1, 1, 16, 2, [b"\xff\xff\x80\x00\x00\x00"])
    assert decode_image(data, LIMIT).tolist() == [[[255, 128, 0]]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.0, 255.0], [0, 100, 255]),
        ([0.0, 257.0, 65535.0], [0, 1, 255]),
        ([-1.0, 0.0, 3.0], [0, 64, 255]),
        ([-2.0, -2.0, -2.0], [0, 0, 0]),
    ],
)
def test_float_grey(values: list[float], expected: list[int]) -> None:
    data = encoded(Image.fromarray(np.array([values], dtype=np.float32)), "TIFF")
    assert decode_image(data, LIMIT)[0, :, 0].tolist() == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0, 1, 255], [0, 1, 255]), ([0, 257, 65535], [0, 1, 255]), ([0, 50_000, 100_000], [0, 128, 255])],
)
def test_integer_grey(values: list[float], expected: list[int]) -> None:
    data = encoded(Image.fromarray(np.array([values], dtype=np.int32)), "TIFF")
    assert decode_image(data, LIMIT)[0, :, 0].tolist() == expected


def test_not_finite_grey_is_refused() -> None:
    data = encoded(Image.fromarray(np.array([[0.0, np.nan]], dtype=np.float32)), "TIFF")
    assert refused(decode_image, data, LIMIT).reason == "unreadable"


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG"])
def test_first_frame_of_an_animation(file_format: str) -> None:
    frames = [Image.new("RGB", (4, 3), colour) for colour in (RED, BLUE)]
    options = {"lossless": True} if file_format == "WEBP" else {}
    data = encoded(frames[0], file_format, save_all=True, append_images=frames[1:], duration=100, **options)
    assert decode_image(data, LIMIT).tolist() == [[list(RED)] * 4] * 3


def test_first_picture_of_a_stereo_jpeg() -> None:
    frames = [Image.new("RGB", (16, 8), colour) for colour in (RED, BLUE)]
    data = encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert np.abs(decode_image(data, LIMIT).astype(int) - RED).max() <= 4


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1)])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF"])
def test_extreme_sizes(size: tuple[int, int], file_format: str) -> None:
    data = encoded(Image.new("RGB", size), file_format)
    assert decode_image(data, LIMIT).shape == (size[1], size[0], 3)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_truncated_files_are_refused(file_format: str, kept: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(picture(noise), file_format)
    error = refused(decode_image, data[: int(len(data) * kept)], LIMIT)
    assert error.reason == "unreadable"
    assert "0x" not in error.message


@pytest.mark.parametrize("data", [b"not a picture\n", b"<html>404</html>", b"\xff\xd8\xff", b"%!PS-Adobe-3.0 EPSF"])
def test_other_files_are_refused(data: bytes) -> None:
    assert refused(decode_image, data, LIMIT).reason == "unreadable"


def test_no_bytes() -> None:
    assert refused(decode_image, b"", LIMIT).reason == "empty_file"


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_too_large_images_are_refused_before_decoding(file_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.new("L", (50, 41)).convert("RGB"), file_format)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    error = refused(decode_image, data, 50 * 40)
    assert (error.reason, error.message) == (
        "too_large",
        "the image has 50 x 41 pixels, more than the 2000 allowed",
    )
    assert refused(decode_image, data, 100).reason == "too_large"


def test_bomb_is_refused_from_its_header() -> None:
    data = png(40_000, 40_000, 8, 0, [b""])
    assert refused(decode_image, data, 64_000_000).reason == "too_large"


def test_our_limit_and_not_the_one_of_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for file_format in ("PNG", "TIFF", "WEBP"):
        assert decode_image(encoded(Image.new("RGB", (20, 20)), file_format), 400).shape == (20, 20, 3)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_threads_share_the_decoder() -> None:
    data = encoded(Image.new("RGB", (40, 30), RED), "JPEG")
    limit = Image.MAX_IMAGE_PIXELS
    shapes: list[tuple[int, ...]] = []
    threads = [
        threading.Thread(target=lambda: shapes.extend(decode_image(data, LIMIT).shape for _ in range(20)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shapes == [(30, 40, 3)] * 80
    assert Image.MAX_IMAGE_PIXELS == limit


def test_label_keeps_its_ids_and_has_the_voc_palette() -> None:
    label = np.array([[0, 1, 15], [20, 254, 255]], dtype=np.uint8)
    data = encode_label(label)
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "P"
        assert image.getpalette() == voc_palette().ravel().tolist()
        assert image.convert("RGB").getpixel((1, 0)) == (128, 0, 0)
    np.testing.assert_array_equal(decode_mask(data), label)
    assert encode_label(label.copy()) == data


def test_label_of_one_pixel_and_of_a_view() -> None:
    assert decode_mask(encode_label(np.array([[9]], dtype=np.uint8))).tolist() == [[9]]
    label = np.arange(12, dtype=np.uint8).reshape(3, 4).T[::-1]
    np.testing.assert_array_equal(decode_mask(encode_label(label)), label)


@pytest.mark.parametrize("label", [np.zeros((2, 2)), np.zeros((2, 2, 3), dtype=np.uint8)])
def test_label_must_be_bytes_in_two_dimensions(label: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"uint8 array \(H, W\) is needed"):
        encode_label(label)


def test_mask_from_a_palette_gives_indices() -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8))
    image.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
    assert decode_mask(encoded(image, bits=2)).tolist() == [[0, 1, 2]]
    assert decode_mask(encoded(image, transparency=0)).tolist() == [[0, 1, 2]]


def test_mask_from_grey_gives_values() -> None:
    assert decode_mask(encoded(picture([[0, 8, 255]]))).tolist() == [[0, 8, 255]]


@pytest.mark.parametrize(
    ("depth", "row", "values"),
    [
        (1, bytes([0b01000000]), [0, 1, 0]),
        (2, bytes([0b00011000]), [0, 1, 2]),
        (4, bytes([0x0F, 0x30]), [0, 15, 3]),
        (16, struct.pack(">3H", 0, 20, 255), [0, 20, 255]),
    ],
)
def test_mask_from_grey_of_other_depths(depth: int, row: bytes, values: list[float]) -> None:
    assert decode_mask(png(3, 1, depth, 0, [row])).tolist() == [values]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (encoded(Image.new("RGB", (2, 2))), "colour image .mode RGB.; class ids are needed"),
        (encoded(Image.new("RGBA", (2, 2))), "palette PNG"),
        (encoded(Image.new("L", (2, 2)), "JPEG"), "not a PNG"),
        (encoded(Image.new("L", (64, 64)))[:60], "cannot be decoded"),
        (png(1, 1, 16, 0, [b"\x01\x00"]), "has the value 256"),
        (b"", "not a PNG"),
        (png(40_000, 40_000, 8, 0, [b""]), "pixels"),
    ],
)
def test_bad_masks(data: bytes, words: str) -> None:
    with pytest.raises(RowError, match=words) as caught:
        decode_mask(data)
    assert caught.value.reason == "bad_mask"


def test_mask_of_another_size() -> None:
    data = encode_label(np.zeros((3, 5), dtype=np.uint8))
    assert decode_mask(data, (3, 5)).shape == (3, 5)
    error = refused(decode_mask, data, (5, 3))
    assert (error.reason, error.message) == ("bad_mask", "the mask has 5 x 3 pixels, its image has 3 x 5")


@pytest.mark.parametrize("dtype", [np.uint8, np.bool_])
def test_grey_round_trip(dtype: type) -> None:
    array: np.ndarray = np.array([[0, 1, 1], [1, 0, 0]], dtype=dtype)
    decoded = decode_grey(encode_grey(array))
    assert decoded.dtype == dtype
    np.testing.assert_array_equal(decoded, array)


def test_grey_without_pixels() -> None:
    assert encode_grey(np.zeros((0, 7), dtype=bool)) == b""
    assert decode_grey(b"").shape == (0, 0)


def test_grey_needs_bytes_or_bits() -> None:
    with pytest.raises(ValueError, match="uint8 or uint16 or bool"):
        encode_grey(np.zeros((2, 2), dtype=np.float32))  # type: ignore[arg-type]


@pytest.mark.parametrize("top", [1, 255, 256, 65_535])
def test_regions_come_back_as_they_were(top: int) -> None:
    labels = np.array([[0, top, 1]], dtype=np.uint16)
    found = decode_regions(encode_grey(labels), (1, 3))
    assert found.dtype == (np.uint8 if top < 256 else np.uint16)
    np.testing.assert_array_equal(found, labels)
    np.testing.assert_array_equal(decode_grey(encode_grey(labels)), labels, strict=True)


def test_a_jpeg_of_several_pictures_is_its_first() -> None:
    first, second = Image.new("RGB", (16, 8), (200, 30, 60)), Image.new("RGB", (16, 8), "black")
    data = encoded(first, "MPO", save_all=True, append_images=[second])
    assert np.abs(decode_image(data, LIMIT).astype(int) - (200, 30, 60)).max() <= 4
    assert image_size(data) == (8, 16)


@pytest.mark.parametrize(
    ("brand", "needed"), [(b"heic", "pillow-heif"), (b"mif1", "pillow-heif"), (b"avif", "a Pillow that has AVIF")]
)
def test_an_image_without_its_reader_says_what_to_install(
    brand: bytes, needed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pfit_ray.data.images._OPTIONAL", {name: (False, needed) for name in ("AVIF", "HEIF")})
    monkeypatch.setattr("pfit_ray.data.images.FORMATS", ("JPEG", "PNG"))
    error = refused(decode_image, b"\0\0\0\x18ftyp" + brand + bytes(12), LIMIT)
    assert error.reason == "unreadable"
    assert needed in error.message
    assert missing_reader("a.HEIC" if needed == "pillow-heif" else "a.avif") == needed
    assert missing_reader("a.jpg") is None
    assert missing_reader("a.txt") is None


def test_suffixes_of_images() -> None:
    assert {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".dib", ".tiff"} <= set(IMAGE_SUFFIXES)
    assert (".avif" in IMAGE_SUFFIXES) == ("AVIF" in FORMATS)
    assert (".heic" in IMAGE_SUFFIXES) == ("HEIF" in FORMATS)
