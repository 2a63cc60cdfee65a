"""Colour photographs inside scikit-image's wheel: a source that needs no download."""

from collections.abc import Iterator
from importlib import resources

from pfit_ray.config.data import DataConfig
from pfit_ray.errors import RowError
from pfit_ray.sources.item import Item
from pfit_ray.sources.labels import label_keys

SAMPLES = {
    "chelsea.png": "cat",
    "coffee.png": "cup",
    "motorcycle_left.png": "motorbike",
    "motorcycle_right.png": "motorbike",
    "rocket.jpg": "rocket",
}
"""The photographs and the one class that each shows."""


def list_samples(data: DataConfig) -> Iterator[Item]:
    """The photographs, sorted by name; there are no masks."""
    folder = resources.files("skimage") / "data"
    for name, class_name in sorted(SAMPLES.items()):
        image_id, uri = name.partition(".")[0], str(folder / name)
        try:
            keys = label_keys([class_name], data.class_list, data.unknown_classes == "ignore")
            yield Item(image_id, uri, keys)
        except RowError as error:
            yield Item(image_id, uri, reason=error.reason, message=error.message)
