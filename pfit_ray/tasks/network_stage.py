"""The base of the stages around a network: images of one shape go through it together."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np
import torch

from pfit_ray.constants import Row
from pfit_ray.errors import RowError
from pfit_ray.tasks.base import Outcome, Stage, attempted

Output = TypeVar("Output")


class NetworkStage(Stage, Generic[Output]):
    """A stage whose network takes several images at once; what follows is done for each row by itself.

    A batch that the GPU has no memory for is halved, down to single images; a batch that fails for another
    reason is tried image by image, so that one image cannot take its neighbours with it.
    """

    def __init__(self) -> None:
        self.fitting: dict[tuple[int, ...], int] = {}

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
            "out_of_memory", f"the GPU has not enough memory for this image of {width} x {height} pixels alone"
        )
