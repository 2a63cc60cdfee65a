"""CAM sources other than our own classifier."""

from collections.abc import Sequence

from pfit_ray.config.stages import CamConfig
from pfit_ray.data.cam_sources.base import CamMaps, CamSource
from pfit_ray.data.cam_sources.external import ExternalCam
from pfit_ray.data.plugins import find_class
from pfit_ray.errors import UserError

__all__ = ["BUILTIN", "GROUP", "CamMaps", "CamSource", "make_cam_source"]

GROUP = "pfit_ray.cam_sources"
"""Entry-point group in which other packages register their sources."""

BUILTIN: dict[str, type | str] = {"external": ExternalCam, "clip": "pfit_ray.data.cam_sources.clip:ClipCam"}
"""Our own sources besides the classifier, which no package can replace."""


def make_cam_source(config: CamConfig, classes: Sequence[str]) -> CamSource:
    """The source that `cam.source` names, with its options; it is not `classifier`.

    Args:
        config: names it.
        classes: names of the foreground classes in the order of their ids.

    Raises:
        UserError: when there is no such source, or it refuses its options.
    """
    kind = find_class(GROUP, config.source, BUILTIN, "cam.source")
    if not issubclass(kind, CamSource):
        raise UserError(f"config: cam.source {config.source!r} is {kind.__name__}, not a subclass of CamSource")
    try:
        made: CamSource = kind(**config.options)
        made.use_classes(classes)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"config: cam.source {config.source!r} does not take cam.options {config.options}: {error}"
        ) from error
    return made
