"""What an export format is, and where its files go."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pfit_ray import storage
from pfit_ray.constants import ClassList
from pfit_ray.results.export.items import LabelledImage


@dataclass(frozen=True)
class Target:
    """Where an export goes and what it is about.

    Args:
        root: folder or URL of the export.
        scratch: a local folder for files that grow image by image, until they are whole.
        classes: the foreground classes.
        split: name of the set of images.
        scores: names of the scores that each image has.
        polygons: COCO's masks are polygons in place of run lengths.
    """

    root: str
    scratch: Path
    classes: ClassList
    split: str
    scores: tuple[str, ...] = ()
    polygons: bool = False

    def url(self, name: str) -> str:
        """URL of a file of the export."""
        return storage.join(self.root, name)

    def write(self, name: str, data: bytes) -> None:
        """Write a small file."""
        storage.write_bytes(self.url(name), data)

    def publish(self, name: str, path: Path) -> None:
        """Put a finished file of the scratch folder in its place, and remove it there."""
        storage.upload(str(path), self.url(name))
        path.unlink()


class FormatWriter(ABC):
    """One format. It gets one image after the other and keeps none of them.

    Args:
        target: where the files go.
    """

    folder: ClassVar[str | None] = "images"
    """Folder of the images; "" is the export itself, None means that the format keeps them in its own files."""

    def __init__(self, target: Target) -> None:
        self.target = target

    @abstractmethod
    def add(self, image: LabelledImage, file_name: str) -> dict[str, bytes]:
        """Add an image.

        Args:
            image: the image; `encoded` holds the upright image file, where the export has images.
            file_name: name of the image file, without a folder.

        Returns:
            The files that are of this image alone, by their name in the export.

        Raises:
            RowError: when its label map cannot be used; then nothing of it has been added.
        """

    @abstractmethod
    def finish(self) -> None:
        """Write what all images share."""


def checked_names(target: Target, forbidden: str, where: str) -> tuple[str, ...]:
    """The class names, after a check that none has a sign which the format cannot hold.

    Raises:
        ValueError: names the class and the sign.
    """
    for name in target.classes.names:
        bad = next((sign for sign in name if sign in forbidden or not sign.isprintable()), None)
        if bad is not None:
            raise ValueError(f"class {name!r} has the sign {bad!r}, which {where} cannot hold")
    return target.classes.names
