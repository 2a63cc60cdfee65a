"""What a run was computed with: versions, platform and seeds."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from PIL import features

from pfit_ray.config import RunConfig

PACKAGES = (
    "pfit-ray",
    "ray",
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "scipy",
    "scikit-image",
    "opencv-python-headless",
    "opencv-python",
    "pillow",
    "pyarrow",
    "pydensecrf2",
    "numba",
)


def describe_environment(config: RunConfig) -> dict[str, Any]:
    """Versions of what computes the results, for the run directory."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "jpeg_library": features.version("libjpeg_turbo") or features.version("jpg"),
        "seed": config.seed,
        "uss_seed": config.regions.uss.seed,
        "fidelity": {
            "cam": config.fidelity_of("cam"),
            "regions": config.fidelity_of("regions"),
            "fit": config.fidelity_of("fit"),
            "walk": config.fidelity_of("walk"),
            "predict": config.fidelity_of("predict"),
        },
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
