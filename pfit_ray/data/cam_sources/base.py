"""What a CAM source is, other than our own classifier."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class CamMaps:
    """Class maps of one image.

    Attributes:
        keys: the K class ids of the maps, from 1, each once.
        maps: floats (K, h, w) of any size and range; negative values count as 0, and each class is divided by its own
            maximum.
        scores: score (K,) of each class, or None where there is none.
    """

    keys: Sequence[int]
    maps: NDArray[np.floating]
    scores: Sequence[float] | None = None


class CamSource(ABC):
    """Finds where the classes of an image are.

    A subclass in one file is a plug-in: it takes `cam.options` as keyword arguments. Another package registers its own
    by an entry point of the group `pfit_ray.cam_sources` and is chosen by `cam.source`. It is made where the run is
    started and sent to the workers, so it loads what is large in `setup`.
    """

    def use_classes(self, names: Sequence[str]) -> None:  # noqa: B027 - most sources know classes by their ids
        """Take the names of the foreground classes, in the order of their ids, before `setup`.

        Raises:
            ValueError: when the options do not fit them.
        """

    def setup(self) -> None:  # noqa: B027 - not every source has something to load
        """Load what is needed once per worker."""

    @abstractmethod
    def cam(self, image: NDArray[np.uint8], image_id: str, keys: Sequence[int] | None) -> CamMaps:
        """The class maps of one image.

        Args:
            image: uint8 RGB (H, W, 3).
            image_id: letters, digits, `_` and `-`.
            keys: ascending class ids of the image's label, from 1; at least one, as a label without classes needs no
                maps. None means that the label is unknown; then the classes that the source returns are the label.

        Returns:
            Maps of at least these classes; those of others are left out.

        Raises:
            RowError: when this image has no maps; its row fails, the others go on.
        """

    def cam_batch(
        self, images: Sequence[NDArray[np.uint8]], image_ids: Sequence[str], keys: Sequence[Sequence[int] | None]
    ) -> list[CamMaps]:
        """The class maps of several images of one size; a source with a network takes them through it together.

        One that raises is asked for each of them alone.
        """
        return [self.cam(*one) for one in zip(images, image_ids, keys, strict=True)]
