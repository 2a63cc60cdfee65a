"""Where images, image-level labels and ground truth come from."""

from pfit_ray.data.sources.item import Item
from pfit_ray.data.sources.listing import list_images
from pfit_ray.data.sources.mask_ids import mask_lookup
from pfit_ray.data.sources.notes import Note, Notes

__all__ = ["Item", "Note", "Notes", "list_images", "mask_lookup"]
