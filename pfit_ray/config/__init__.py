"""One YAML file is one run: the validated model, and how it is loaded."""

from pfit_ray.config.load import load_config, resolved_yaml
from pfit_ray.config.run import PASSES, Pass, RunConfig

__all__ = ["PASSES", "Pass", "RunConfig", "load_config", "resolved_yaml"]
