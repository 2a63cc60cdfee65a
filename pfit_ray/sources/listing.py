"""The images of a run's source, in a fixed order."""

from collections.abc import Iterator
from itertools import chain, islice

from pfit_ray.config.data import DataConfig, ImageSetConfig
from pfit_ray.errors import UserError
from pfit_ray.sources.folder import list_folder
from pfit_ray.sources.item import Item
from pfit_ray.sources.samples import list_samples
from pfit_ray.sources.voc import list_voc


def list_images(data: DataConfig, images: ImageSetConfig) -> Iterator[Item]:
    """The images of one set, lazily; problems with a single image's label are in its item.

    The order does not depend on when or where it is listed: a list's own order for voc, else sorted by path.

    Args:
        data: the source.
        images: which of its images.

    Raises:
        UserError: at once, when the source, its list or its label table is missing or unusable, or when
            there is no image.
    """
    if data.source == "voc":
        items = list_voc(data, images.split)
    elif images.split is not None:
        raise UserError(
            f"data: source {data.source!r} has no lists, so split {images.split!r} means nothing; "
            "remove it or use source voc"
        )
    elif data.source == "folder":
        items = list_folder(data)
    else:
        items = list_samples(data)
    items = islice(items, images.limit)
    first = next(items, None)
    if first is None:
        place = f"the list {images.split!r}" if images.split else repr(data.root)
        raise UserError(f"data: source {data.source!r} found no image in {place}; check data.root and the list")
    return chain([first], items)
