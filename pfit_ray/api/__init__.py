"""What a notebook uses; `import pfit_ray` offers it by name."""
