"""What a run was computed with: versions, platform and seeds."""

import platform
from importlib import util
from importlib.metadata import PackageNotFoundError, version
from typing import Any, get_args

from PIL import features

from pfit_ray.config import PASSES, RunConfig
from pfit_ray.config.run import ENGINE_PACKAGES, FidelityStage
from pfit_ray.data import cam_sources, region_sources
from pfit_ray.data.plugins import plugin_package
from pfit_ray.errors import UserError

PACKAGES = (
    "pfit-ray", "ray", "torch", "torchvision", "timm", "numpy", "scipy", "scikit-image", "opencv-python-headless",
    "opencv-python", "pillow", "pyarrow", "pydensecrf2", "numba", "onnx", "onnxruntime",
    "transformers",
)  # fmt: skip
_STAGES: tuple[FidelityStage, ...] = get_args(FidelityStage)


def describe_environment(config: RunConfig) -> dict[str, Any]:
    """Versions of what computes the results, for the run directory."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: found for name in PACKAGES if (found := package_version(name))},
        "jpeg_library": features.version("libjpeg_turbo") or features.version("jpg"),
        "crf_engine": config.used_crf_engine,
        "network_engine": {name: config.engine_of(name) for name in PASSES},
        "seed": config.seed,
        "uss_seed": config.regions.uss.seed,
        "plugins": _plugins(config),
        "fidelity": {stage: config.fidelity_of(stage) for stage in _STAGES},
    }


def check_packages(config: RunConfig) -> None:
    """Check that the optional packages that the config asks for are installed.

    Raises:
        UserError: names the field, the extra that brings the package, and what does without it; or the source that no
            package has, or that refuses its options.
    """
    if "seeds" in config.passes:
        for source in config.regions.sources if config.region_names else ():
            region_sources.make_region_source(config.regions, source)
        if config.cam.source != "classifier":
            cam_sources.make_cam_source(config.cam, config.data.class_list.names)
    if config.used_crf_engine == "pydensecrf" and util.find_spec("pydensecrf") is None:
        asked = "'crf_engine' is pydensecrf" if config.crf_engine else "'fidelity' is reference"
        raise UserError(
            f'config: {asked}, but the package pydensecrf is not installed; pip install "pfit-ray[pydensecrf]", which '
            "needs a C++ compiler, or set crf_engine=native"
        )
    missing = [name for name in ENGINE_PACKAGES if util.find_spec(name) is None]
    if missing and "onnxruntime" in map(config.engine_of, config.passes):
        raise UserError(
            f"config: 'network_engine' is onnxruntime, and {' and '.join(missing)} cannot be found; "
            "pip install 'pfit-ray[onnx]', or set network_engine=channels_last"
        )


def _plugins(config: RunConfig) -> dict[str, str]:
    """Package and version of each source that another package brings, by kind."""
    asked = [(region_sources.GROUP, source.kind) for source in config.regions.sources if config.region_names]
    asked.append((cam_sources.GROUP, config.cam.source))
    own = {region_sources.GROUP: region_sources.BUILTIN, cam_sources.GROUP: cam_sources.BUILTIN}
    return {
        kind: package
        for group, kind in asked
        if kind not in own[group] and (package := plugin_package(group, kind)) is not None
    }


def package_version(name: str) -> str | None:
    """The installed version of a package, None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
