"""What a region source is."""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray


class RegionSource(ABC):
    """Cuts an image into regions that follow its borders; it knows no classes.

    A subclass in one file is a plug-in: it takes the options of its entry in `regions.sources` as keyword arguments.
    Another package registers its own by an entry point of the group `pfit_ray.region_sources`. It is made where the run
    is started and sent to the workers, so that what is large is loaded in `setup`.
    """

    reads_pixels: ClassVar[bool] = True
    """Whether regions are computed from the pixels. Then images larger than `regions.uss.max_side` come shrunk."""
    bytes_per_pixel: ClassVar[int] = 250
    """Memory that `regions` takes per pixel of the image, for the estimate of a worker's memory."""

    def setup(self) -> None:  # noqa: B027 - most sources have nothing to load
        """Load what is needed, before the first image of a worker's shard."""

    @abstractmethod
    def regions(self, image: NDArray[np.uint8], image_id: str) -> NDArray[np.integer]:
        """The label map of one image; equal images must give equal maps, in every worker.

        Args:
            image: uint8 RGB (H, W, 3).
            image_id: letters, digits, `_` and `-`.

        Returns:
            Integers (H, W), 0 or larger. Pixels of one label are one region, or several where they do not touch
            (4-neighbours).

        Raises:
            RowError: when this image has no regions; its row fails, the others go on.
        """
