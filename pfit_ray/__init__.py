"""pfit_ray: pixel labels from image-level labels, on Ray."""

from importlib.metadata import version

__version__ = version("pfit-ray")
