"""Unsupervised segmentations and their perimeters."""
