"""Colour images inside scikit-image's wheel: a source that needs no download."""

from collections.abc import Iterator
from importlib import resources

from pfit_ray import storage
from pfit_ray.config.data import DataConfig
from pfit_ray.data.sources.item import Item
from pfit_ray.data.sources.notes import Notes

SAMPLES = {
    "chelsea.png": "cat",
    "coffee.png": "cup",
    "motorcycle_left.png": "motorbike",
    "motorcycle_right.png": "motorbike",
    "rocket.jpg": "rocket",
}
"""The images and the one class that each shows."""


def list_samples(data: DataConfig, notes: Notes) -> Iterator[Item]:
    """The images of the listed classes, sorted by name; there are no masks."""
    folder = resources.files("skimage") / "data"
    for name, class_name in sorted(SAMPLES.items()):
        class_id = data.class_list.ids.get(class_name)
        if class_id is not None:
            place = str(folder / name)
            entry = next(storage.list_entries(place))
            yield Item(name.partition(".")[0], place, (class_id,), size=entry.size)
