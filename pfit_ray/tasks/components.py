"""The connected regions of a row's region maps, found once for all stages."""

from pfit_ray.constants import Row
from pfit_ray.ops.cam.perimeter_fit import connected_regions
from pfit_ray.ops.cam.pool import Components


def components_of(row: Row, source: str) -> Components:
    """The connected regions of one region source, int32 (H, W), and their count; the row keeps them."""
    column = f"components_{source}"
    if column not in row:
        row[column] = connected_regions(row[f"regions_{source}"])
    found: Components = row[column]
    return found
