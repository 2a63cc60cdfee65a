"""Photographs and label maps as a torch Dataset."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from pfit_ray.api.labels import decoded_image, decoded_label
from pfit_ray.config.storage import StorageConfig
from pfit_ray.storage.drivers import reach


class TorchLabels(Dataset[Any]):
    """Decodes one image and its label map when they are asked for; goes into a DataLoader's workers.

    Args:
        rows: rows of `Labels.pandas`.
        max_pixels: larger images are refused.
        transform: makes an item of image and label map; None: a pair of tensors, uint8 (3, H, W) and int64 (H, W).
        storage: how buckets are reached; None: as this process does.
    """

    def __init__(
        self,
        rows: Sequence[dict[str, Any]],
        max_pixels: int,
        transform: Callable[[np.ndarray, np.ndarray], Any] | None = None,
        storage: StorageConfig | None = None,
    ) -> None:
        self.rows = rows
        self.max_pixels = max_pixels
        self.transform = transform
        self.storage = storage

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        """One item.

        Raises:
            RowError: when the image or the label map cannot be read any more.
        """
        if self.storage is not None:
            reach(self.storage)
        row = self.rows[index]
        image, label = decoded_image(row, self.max_pixels), decoded_label(row)
        if self.transform is not None:
            return self.transform(image, label)
        return torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(label.astype(np.int64))
