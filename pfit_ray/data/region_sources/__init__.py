"""Region sources: each cuts an image into regions; any number of them at once."""

from pfit_ray.config.sources import RegionSourceConfig
from pfit_ray.config.stages import RegionsConfig
from pfit_ray.data.plugins import find_class
from pfit_ray.data.region_sources.base import RegionSource
from pfit_ray.data.region_sources.builtin import ExternalRegions, FelzenszwalbSource, QuickshiftSource, SlicSource
from pfit_ray.errors import UserError

__all__ = ["BUILTIN", "GROUP", "RegionSource", "make_region_source", "region_source_class"]

GROUP = "pfit_ray.region_sources"
"""Entry-point group in which other packages register their sources."""

BUILTIN: dict[str, type | str] = {
    "slic": SlicSource,
    "quickshift": QuickshiftSource,
    "felzenszwalb": FelzenszwalbSource,
    "features": "pfit_ray.data.region_sources.features:FeatureRegions",  # needs modules that no other source does
    "sam": "pfit_ray.data.region_sources.sam:SamRegions",
    "external": ExternalRegions,
}
"""Our own sources, which no package can replace."""


def region_source_class(source: RegionSourceConfig) -> type[RegionSource]:
    """The class of a source.

    Raises:
        UserError: when there is none of its kind.
    """
    found = find_class(GROUP, source.kind, BUILTIN, "regions.sources kind")
    if not issubclass(found, RegionSource):
        raise UserError(
            f"config: regions.sources kind {source.kind!r} is {found.__name__}, not a subclass of RegionSource"
        )
    return found


def make_region_source(config: RegionsConfig, source: RegionSourceConfig) -> RegionSource:
    """A source with its options.

    Raises:
        UserError: when there is none of its kind, or it refuses its options.
    """
    kind, options = region_source_class(source), config.options_of(source)
    try:
        return kind(**options)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"config: regions.sources: source {source.column!r} of kind {source.kind!r} does not take its options "
            f"{options}: {error}"
        ) from error
