"""pfit_ray: pixel labels from image-level labels, on Ray.

In a notebook: `import pfit_ray as pf`. Neither torch nor Ray is imported before something needs them.
"""

import importlib
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pfit_ray.api.renamed import RenamedFinder

if TYPE_CHECKING:
    from pfit_ray.api.runs import Run, open, run
    from pfit_ray.api.single import (
        cam,
        load_classifier,
        load_segmenter,
        perimeter_fit,
        pseudo_label,
        zero_shot_classifier,
    )

__version__ = version("pfit-ray")

sys.meta_path.append(RenamedFinder())

__all__ = [
    "Run", "__version__", "cam", "load_classifier", "load_segmenter", "open", "perimeter_fit", "pseudo_label", "run",
    "zero_shot_classifier",
]  # fmt: skip

_PLACES = {
    **dict.fromkeys(("Run", "open", "run"), "pfit_ray.api.runs"),
    **dict.fromkeys(
        ("cam", "load_classifier", "load_segmenter", "perimeter_fit", "pseudo_label", "zero_shot_classifier"),
        "pfit_ray.api.single",
    ),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'pfit_ray' has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
