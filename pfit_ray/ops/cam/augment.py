"""Random size, mirror and crop of a training image and its label map."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pfit_ray.constants import IGNORE


class Placement(NamedTuple):
    """Where a crop takes from the image and where that lands in the canvas; offsets and sizes in pixels."""

    source_top: int
    source_left: int
    target_top: int
    target_left: int
    height: int
    width: int


def augment(
    image: NDArray[np.uint8],
    label: NDArray[np.uint8] | None,
    rng: np.random.Generator,
    *,
    min_side: int,
    max_side: int,
    crop: int,
    flip: bool,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Draw one training example as AffinityNet (Ahn & Kwak, CVPR 2018) and PuzzleCAM (Jo & Yu, ICIP 2021) do.

    The longer side is resized to a random length (image bicubic, label nearest). Both are mirrored with probability
    1/2, the image is normalised, and a random square is cut out. An image smaller than the square is placed in it at
    random and padded: the image with 0 after the normalisation, the label with 255.

    Args:
        image: RGB uint8 (H, W, 3).
        label: class ids uint8 (H, W), 255 = ignore; None stands for a map of 255.
        rng: the only source of randomness; the same state gives the same example.
        min_side: smallest longer side, in pixels.
        max_side: largest longer side, in pixels, included.
        crop: side of the square, in pixels.
        flip: mirror at random.
        mean: mean of the RGB channels of images in [0, 1].
        std: standard deviation of the RGB channels of images in [0, 1].

    Returns:
        image: float32 (3, crop, crop), normalised.
        label: uint8 (crop, crop).

    Raises:
        ValueError: when image and label differ in size.
    """
    if label is not None and label.shape != image.shape[:2]:
        raise ValueError(f"the label map has {label.shape} pixels and the image {image.shape[:2]}")
    height, width = random_size(image.shape[0], image.shape[1], rng, min_side, max_side)
    mirrored = bool(rng.random() < 0.5) and flip
    place = random_placement(height, width, crop, rng)
    window = (
        slice(place.source_top, place.source_top + place.height),
        slice(place.source_left, place.source_left + place.width),
    )
    target = (
        slice(place.target_top, place.target_top + place.height),
        slice(place.target_left, place.target_left + place.width),
    )

    image = _resize(image, height, width, Image.Resampling.BICUBIC)
    image = (image[:, ::-1] if mirrored else image)[window]
    canvas = np.zeros((3, crop, crop), np.float32)
    values = np.arange(256, dtype=np.float32) / np.float32(255)
    for channel, (centre, spread) in enumerate(
        zip(np.asarray(mean, np.float32), np.asarray(std, np.float32), strict=True)
    ):
        normalised = (values - centre) / spread  # of each byte, once
        canvas[channel, *target] = normalised[image[:, :, channel]]

    label_canvas = np.full((crop, crop), IGNORE, np.uint8)
    if label is not None:
        labels = _resize(label, height, width, Image.Resampling.NEAREST)
        label_canvas[target] = (labels[:, ::-1] if mirrored else labels)[window]
    return canvas, label_canvas


def random_size(height: int, width: int, rng: np.random.Generator, min_side: int, max_side: int) -> tuple[int, int]:
    """Height and width after the longer side is drawn from min_side ... max_side; each at least 1 pixel."""
    scale = int(rng.integers(min_side, max_side, endpoint=True)) / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def random_placement(height: int, width: int, crop: int, rng: np.random.Generator) -> Placement:
    """A random square of side `crop` in an image, or a random place for a smaller image in the square."""
    source_top, target_top, rows = _random_span(height, crop, rng)
    source_left, target_left, columns = _random_span(width, crop, rng)
    return Placement(source_top, source_left, target_top, target_left, rows, columns)


def shrink_label(label: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Label map (H, W) at a coarser stride, nearest pixel: (H // factor, W // factor)."""
    return _resize(label, label.shape[0] // factor, label.shape[1] // factor, Image.Resampling.NEAREST)


def _random_span(length: int, crop: int, rng: np.random.Generator) -> tuple[int, int, int]:
    spare = length - crop
    offset = int(rng.integers(abs(spare), endpoint=True))
    return (offset, 0, crop) if spare > 0 else (0, offset, length)


def _resize(array: NDArray[np.uint8], height: int, width: int, resample: Image.Resampling) -> NDArray[np.uint8]:
    if array.shape[:2] == (height, width):
        return array
    return np.asarray(Image.fromarray(array).resize((width, height), resample))
