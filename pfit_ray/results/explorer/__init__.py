"""The explorer: a run's images in a browser, with filters, every stage of each, and marks."""
