"""Finished labels in the formats that other tools read."""

from pfit_ray.results.export.run import FORMATS, Exported, ExportOptions, Images, export_run

__all__ = ["FORMATS", "ExportOptions", "Exported", "Images", "export_run"]
