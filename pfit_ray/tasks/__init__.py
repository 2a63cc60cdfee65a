"""The stages that run inside the pipelines, one per file, and how they are chained."""
