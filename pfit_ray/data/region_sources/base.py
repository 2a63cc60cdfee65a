"""What a region source is."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray


class RegionSource(ABC):
    """Cuts an image into regions that follow its borders; it knows no classes.

    A subclass in one file is a plug-in: it takes the options of its entry in `regions.sources` as keyword arguments.
    Another package registers its own by an entry point of the group `pfit_ray.region_sources`. It is made where the run
    is started and sent to the workers, so it loads what is large in `setup`.
    """

    reads_pixels: ClassVar[bool] = True
    """Whether regions are computed from the pixels. Then images larger than `regions.uss.max_side` come shrunk."""
    bytes_per_pixel: ClassVar[int] = 250
    """Memory that `regions` takes per pixel of the image, for the estimate of a worker's memory."""

    in_network: ClassVar[bool] = False
    """Whether it runs a network of its own: it then works where the CAM network does, which has the GPU."""

    levels: tuple[int, ...] = ()
    """Levels of the CAM network's feature pyramid that `label_maps` is given: 0 is the stem, 1 has stride 4, 2 stride
    8, 3 and 4 stride 16. A source with levels works where the network does."""

    def setup(self) -> None:  # noqa: B027 - most sources have nothing to load
        """Load what is needed before the first image of a worker's shard."""

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

    def label_maps(
        self, image: NDArray[np.uint8], image_id: str, levels: Sequence[NDArray[np.float32]]
    ) -> Sequence[NDArray[np.integer]]:
        """All label maps of one image, in the order of the source's columns; a source with one defines `regions` alone.

        Args:
            image: uint8 RGB (H, W, 3).
            image_id: letters, digits, `_` and `-`.
            levels: for each of `levels`, the network's features float32 (C, h, w), which cover the image.
        """
        return [self.regions(image, image_id)]
