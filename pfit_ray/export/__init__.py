"""Finished labels in the formats that other tools read."""

from pfit_ray.export.run import FORMATS, Exported, ExportOptions, export_run

__all__ = ["FORMATS", "ExportOptions", "Exported", "export_run"]
