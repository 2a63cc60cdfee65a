"""Files that are hard or impossible to read, a storage that refuses and stalls, and a network that puts out NaN.

This module travels to Ray's workers as a whole, because they cannot import tests.
"""

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
import numpy as np
import torch
from fsspec.spec import AbstractFileSystem
from PIL import Image, ImageOps

from pfit_ray.config import RunConfig
from pfit_ray.constants import Row
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.storage.retry import settle
from pfit_ray.tasks.base import Outcome, Stage
from pfit_ray.tasks.fetch import FetchOperator
from pfit_ray.tasks.operators import FinishOperator, StageOperator
from pfit_ray.tasks.packing import Packed
from pfit_ray.tasks.passes import PassPlan


class Odd(NamedTuple):
    """A file that can be read, though it is no plain RGB picture."""

    data: bytes
    pixels: np.ndarray
    """What its decoded pixels are, uint8 (H, W, 3), made without pfit_ray."""


def odd_files(photo: np.ndarray) -> dict[str, Odd]:
    """Files by name, made of a small photograph, uint8 (H, W, 3)."""
    image = Image.fromarray(photo)
    grey = np.asarray(image.convert("L"))
    alpha = np.linspace(0, 255, photo.shape[1]).round().astype(np.uint8)[None].repeat(len(photo), axis=0)
    files = {
        "plain.png": Odd(_saved(image, "PNG"), photo),
        "grey.png": Odd(_saved(Image.fromarray(grey), "PNG"), _three(grey)),
        "grey_jpeg.jpg": _read_back(_saved(Image.fromarray(grey), "JPEG", quality=95)),
        "sixteen_bits.png": Odd(_saved(Image.fromarray(grey.astype(np.uint16) * 257), "PNG"), _three(grey)),
        "rgba.png": Odd(_saved(Image.fromarray(np.dstack([photo, alpha])), "PNG"), _over_white(photo, alpha)),
        "la.png": Odd(_saved(Image.fromarray(np.dstack([grey, alpha])), "PNG"), _over_white(_three(grey), alpha)),
        "palette.png": _read_back(_saved(image.quantize(16), "PNG")),
        "palette_transparent.png": _transparent_palette(image),
        "cmyk.jpg": _read_back(_saved(image.convert("CMYK"), "JPEG", quality=95)),
        "animated_gif.gif": _read_back(_animated(image, "GIF")),
        "animated_webp.webp": Odd(_animated(image, "WEBP", lossless=True), photo),
        "one_pixel.png": Odd(_saved(Image.new("RGB", (1, 1), (200, 90, 30)), "PNG"), np.full((1, 1, 3), (200, 90, 30))),
        "one_row.png": _line(photo, (1, 4000)),
        "one_column.png": _line(photo, (4000, 1)),
    }
    for orientation in range(1, 9):
        files[f"turned_{orientation}.jpg"] = _turned(image, orientation)
    return files


def hopeless_files(photo: np.ndarray) -> dict[str, bytes]:
    """Files by name that cannot be read."""
    data = _saved(Image.fromarray(photo), "JPEG")
    return {
        "no_bytes.jpg": b"",
        "truncated.jpg": data[: len(data) // 2],
        "letter.jpg": b"Dear photograph, where are you?\n",
        "bomb.png": _bomb(),
    }


def _saved(image: Image.Image, file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=file_format, **options)
    return buffer.getvalue()


def _three(grey: np.ndarray) -> np.ndarray:
    return np.dstack([grey] * 3)


def _over_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return np.rint(rgb * share + 255 * (1 - share)).astype(np.uint8)


def _read_back(data: bytes) -> Odd:
    with Image.open(io.BytesIO(data)) as image:
        return Odd(data, np.asarray(image.convert("RGB")))


def _transparent_palette(image: Image.Image) -> Odd:
    """The palette's first colour is transparent."""
    indexed = image.quantize(16)
    pixels = np.asarray(indexed.convert("RGB")).copy()
    pixels[np.asarray(indexed) == 0] = 255
    return Odd(_saved(indexed, "PNG", transparency=0), pixels)


def _animated(image: Image.Image, file_format: str, **options: Any) -> bytes:
    """The picture, then its negative."""
    second = ImageOps.invert(image)
    return _saved(image, file_format, save_all=True, append_images=[second], duration=100, **options)


def _line(photo: np.ndarray, size: tuple[int, int]) -> Odd:
    pixels = np.resize(photo[len(photo) // 2], (*size, 3))
    return Odd(_saved(Image.fromarray(pixels), "PNG"), pixels)


def _turned(image: Image.Image, orientation: int) -> Odd:
    """Stored as a camera does, so that it is upright after what EXIF says has been done to it."""
    to_stored = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = image.transpose(to_stored[orientation]) if orientation in to_stored else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = _saved(stored, "JPEG", quality=95, exif=exif)
    with Image.open(io.BytesIO(data)) as opened:
        return Odd(data, np.asarray(ImageOps.exif_transpose(opened).convert("RGB")))


def _bomb() -> bytes:
    """A small PNG that says it has 40,000 x 40,000 pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def register_faulty_storage() -> None:
    """Make `faulty://` a storage that refuses what is called denied.jpg and never sends anything else."""

    class FaultySystem(AbstractFileSystem):
        protocol = "faulty"
        cachable = False

        def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: object) -> bytes:
            error = PermissionError("403 Forbidden") if path.endswith("denied.jpg") else TimeoutError("no answer")
            settle(error)
            raise error

    fsspec.register_implementation("faulty", FaultySystem, clobber=True)


class FaultyFetch:
    """The first operator, in a worker that knows the faulty storage."""

    def __init__(self, fetch: FetchOperator) -> None:
        self.fetch = fetch

    def __call__(self, packed: Packed) -> Packed:
        """Fetch one shard."""
        register_faulty_storage()
        return self.fetch(packed)


class NanOnWhite(torch.nn.Module):
    """A network that puts out NaN where most of the image is white."""

    network: Any

    def __init__(self, network: torch.nn.Module, white: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.white = torch.tensor(white)[:, None, None]

    def __getattr__(self, name: str) -> Any:
        return super().__getattr__(name) if name == "network" else getattr(self.network, name)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As the network."""
        return self._spoiled(x, self.network(x))

    def maps_and_scores(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As the network."""
        maps, scores = self.network.maps_and_scores(x)
        return self._spoiled(x, maps), scores

    def _spoiled(self, x: torch.Tensor, result: torch.Tensor) -> torch.Tensor:
        white = ((x - self.white).abs() < 1e-3).all(dim=1).float().mean(dim=(1, 2)) > 0.5
        return torch.where(white[:, None, None, None], float("nan"), result)


class Spoiled(Stage):
    """The stage of a network that puts out NaN where the image is all white."""

    def __init__(self, stage: Any) -> None:
        self.name = stage.name  # type: ignore[misc]
        self.stage = stage

    def setup(self) -> None:
        """Load the network and spoil it."""
        self.stage.setup()
        white = [(1 - mean) / std for mean, std in zip(self.stage.mean, self.stage.std, strict=True)]
        self.stage.network = NanOnWhite(self.stage.network, white)

    def process(self, row: Row) -> None:
        """As the stage."""
        self.stage.process(row)

    def process_batch(self, rows: Sequence[Row]) -> list[Outcome]:
        """As the stage."""
        outcomes: list[Outcome] = self.stage.process_batch(rows)
        return outcomes


class FaultyPlan(PassPlan):
    """A pass with the faulty storage and the spoiled network."""

    def operators(self, config: RunConfig, run: RunDirectory) -> tuple[Any, StageOperator, FinishOperator]:
        """The pass's three operators."""
        decode, network = self.network
        fetch, *others = replace(self, network=[decode, Spoiled(network)])._own_operators(config, run)
        return FaultyFetch(fetch), *others

    def _own_operators(self, config: RunConfig, run: RunDirectory) -> Any:
        return super().operators(config, run)


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    """Write files into a folder."""
    for name, data in files.items():
        (folder / name).write_bytes(data)
