"""Pictures for people: maps and labels over an image, arranged on one sheet."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pfit_ray.constants import BACKGROUND, IGNORE, voc_palette
from pfit_ray.ops.regions.region_maps import perimeter_map

TILE = 300
"""Longest side of a tile's picture, in pixels."""
GAP = 10
CAPTION = 22
INK = (20, 24, 32)
PAPER = (255, 255, 255)
UNSURE = (224, 224, 192)


@dataclass(frozen=True)
class Tile:
    """One picture with its caption; `picture` is uint8 RGB (H, W, 3)."""

    caption: str
    picture: np.ndarray


def heat_overlay(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A map in [0, 1] as colours over the grey image.

    Args:
        image: uint8 RGB (H, W, 3).
        values: float (h, w); it is resized to the image.

    Returns:
        uint8 RGB (H, W, 3).
    """
    return _mix(_grey(image), heat_picture(values, image.shape[:2]), 0.6)


def heat_picture(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map in [0, 1], float (h, w), as colours from blue to red: uint8 RGB of `size` (H, W)."""
    large = cv2.resize(values.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)
    levels = np.clip(large * 255, 0, 255).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)


def label_overlay(image: np.ndarray, label: np.ndarray) -> np.ndarray:
    """A label map in the VOC palette over the grey image, with white borders; unsure pixels are pale."""
    mixed = _mix(_grey(image), label_picture(label), 0.65)
    plain = label == BACKGROUND
    mixed[plain] = image[plain]
    mixed[perimeter_map(label)] = 255
    return mixed


def label_picture(label: np.ndarray) -> np.ndarray:
    """A label map (H, W) in the VOC palette, uint8 RGB (H, W, 3); unsure pixels are pale."""
    colours = voc_palette()[label]
    colours[label == IGNORE] = UNSURE
    return colours


def region_picture(regions: np.ndarray) -> np.ndarray:
    """Regions, integers (H, W), in colours that are easy to tell apart; 256 of them, in turn."""
    hues = (np.arange(256) * 67 % 180).astype(np.uint8)
    values = np.where(np.arange(256) % 2, 230, 170).astype(np.uint8)
    table = np.stack([hues, np.full(256, 150, np.uint8), values], axis=1)[:, None]
    return cv2.cvtColor(table, cv2.COLOR_HSV2RGB)[:, 0][regions.astype(np.intp) % 256]


def mask_overlay(image: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Where any class has its mask (bool (K, H, W)): the image; elsewhere it is dimmed."""
    inside = np.any(masks, axis=0)[:, :, np.newaxis]
    return np.where(inside, image, _mix(_grey(image), np.zeros_like(image), 0.7)).astype(np.uint8)


def compose_sheet(
    title: str, legend: Sequence[tuple[str, tuple[int, int, int]]], tiles: Sequence[Tile], columns: int = 4
) -> bytes:
    """Arrange tiles on one sheet.

    Args:
        title: first line.
        legend: names and the colours that they have in label maps.
        tiles: the pictures in reading order.
        columns: pictures per row.

    Returns:
        The sheet as the bytes of a PNG file.
    """
    pictures = [Image.fromarray(tile.picture) for tile in tiles]
    for picture in pictures:
        picture.thumbnail((TILE, TILE))
    cell_w = max(picture.width for picture in pictures) + GAP
    cell_h = max(picture.height for picture in pictures) + CAPTION + GAP
    rows = -(-len(pictures) // columns)
    head = 70
    sheet = Image.new("RGB", (max(columns * cell_w, 640) + GAP, head + rows * cell_h), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP), title, INK, font=ImageFont.load_default(20))
    left = float(GAP)
    for name, colour in legend:
        draw.rectangle((left, 44, left + 16, 60), fill=colour, outline=INK)
        draw.text((left + 22, 43), name, INK, font=ImageFont.load_default(15))
        left += 40 + draw.textlength(name, font=ImageFont.load_default(15))
    for index, (tile, picture) in enumerate(zip(tiles, pictures, strict=True)):
        x = GAP + index % columns * cell_w
        y = head + index // columns * cell_h
        draw.text((x, y), tile.caption, INK, font=ImageFont.load_default(14))
        sheet.paste(picture, (x, y + CAPTION))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _grey(image: np.ndarray) -> np.ndarray:
    return np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2)


def _mix(below: np.ndarray, above: np.ndarray, weight: float) -> np.ndarray:
    return np.round(below * (1.0 - weight) + above * weight).astype(np.uint8)
