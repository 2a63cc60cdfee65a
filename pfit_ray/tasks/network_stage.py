"""The base of the stages around a network: its weights, its device, and images that go through it together."""

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Generic, Literal, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pfit_ray.constants import Row
from pfit_ray.errors import RowError
from pfit_ray.ops.cam.cam import resize_image, scaled_size
from pfit_ray.tasks.base import Outcome, Stage, attempted

Precision = Literal["float32", "bfloat16", "float16"]


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Context in which a forward pass runs in the given precision."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))


def normalised_batch(
    images: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> Tensor:
    """Images as a network's input.

    Args:
        images: uint8 RGB (B, H, W, 3).
        mean: mean of the three channels, in [0, 1].
        std: standard deviation of the three channels, in [0, 1].
        device: where the result lies.

    Returns:
        float32 (B, 3, H, W).
    """
    table = _normalised_values(mean, std)
    if device.type != "cpu":  # a quarter of the bytes to move, and nothing for the host to compute
        values = torch.from_numpy(table).to(device)
        pixels = torch.from_numpy(images).to(device)
        return torch.stack([row[pixels[..., channel].int()] for channel, row in enumerate(values)], dim=1)
    planes = np.empty((len(images), 3, *images.shape[1:3]), dtype=np.float32)
    for image, three in zip(images, planes, strict=True):
        for channel, row, plane in zip(cv2.split(image), table, three, strict=True):
            cv2.LUT(channel, row, plane)
    return torch.from_numpy(planes)


@cache
def _normalised_values(mean: tuple[float, ...], std: tuple[float, ...]) -> NDArray[np.float32]:
    """What each of the 256 values of each channel becomes, float32 (3, 256)."""
    values = np.arange(256) / 255.0
    return np.stack([((values - middle) / width).astype(np.float32) for middle, width in zip(mean, std, strict=True)])


def limited_size(height: int, width: int, longest: int | None) -> tuple[int, int]:
    """The size at which a network sees an image of which the longer side is limited; None never shrinks."""
    if longest is None or max(height, width) <= longest:
        return height, width
    return scaled_size(height, width, longest / max(height, width))


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The image at a size (H, W), itself if it has it."""
    return image if image.shape[:2] == size else resize_image(image, size)


def with_mirrors(batch: Tensor, flip: bool) -> Tensor:
    """A batch of images (B, 3, H, W), followed by their mirror images (2 B, 3, H, W) if asked."""
    return torch.cat([batch, batch.flip(-1)]) if flip else batch


def by_image(results: Tensor, images: int) -> Tensor:
    """What the network says of a batch `with_mirrors`, (B, ...) or (2 B, ...), as (B, 1 or 2, ...)."""
    return results.unflatten(0, (-1, images)).transpose(0, 1)


Output = TypeVar("Output")


class NetworkStage(Stage, Generic[Output]):
    """A stage whose network takes several images at once; what follows is done for each row by itself.

    A batch that the GPU has no memory for is halved, down to single images; a batch that fails for another
    reason is tried image by image, so that one image cannot take its neighbours with it.
    """

    device: torch.device = torch.device("cpu")

    def __init__(self) -> None:
        self.fitting: dict[tuple[int, ...], int] = {}

    @property
    def on_gpu(self) -> bool:
        """Whether the network is on a GPU."""
        return self.device.type == "cuda"

    @abstractmethod
    def forward(self, images: np.ndarray) -> Sequence[Output]:
        """What the network says of images uint8 RGB (B, H, W, 3), one output each; changes no row."""

    @abstractmethod
    def finish(self, row: Row, output: Output) -> None:
        """Add this stage's columns to a row.

        Raises:
            RowError: when this row cannot be processed.
        """

    def process(self, row: Row) -> None:
        """Take one image through the network."""
        (outcome,) = self.process_batch([row])
        if outcome is not None:
            raise outcome

    def process_batch(self, rows: Sequence[Row]) -> list[Outcome]:
        """Take rows whose images have one shape through the network."""
        shape = rows[0]["image"].shape
        size = min(len(rows), self.fitting.get(shape, len(rows)))
        outcomes: list[Outcome] = []
        for start in range(0, len(rows), size):
            outcomes += self._together(rows[start : start + size])
        return outcomes

    def _together(self, rows: Sequence[Row]) -> list[Outcome]:
        try:
            outputs = self.forward(np.stack([row["image"] for row in rows]))
        except Exception as error:
            problem = error.with_traceback(None)  # the traceback's frames would hold the batch's tensors
        else:
            return [attempted(self.finish, row, output) for row, output in zip(rows, outputs, strict=True)]
        exhausted = isinstance(problem, torch.OutOfMemoryError)
        if exhausted and torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(rows) == 1:
            return [self._too_much(rows[0]) if exhausted else problem]
        size = (len(rows) + 1) // 2 if exhausted else 1
        if exhausted:
            shape = rows[0]["image"].shape
            self.fitting[shape] = min(size, self.fitting.get(shape, size))
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        return [outcome for part in parts for outcome in self._together(part)]

    def _too_much(self, row: Row) -> RowError:
        height, width = row["image"].shape[:2]
        return RowError(
            "out_of_memory", f"the GPU has too little memory for this image of {width} x {height} pixels alone"
        )
