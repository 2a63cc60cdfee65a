"""Scores of maps and label maps, with and without ground truth."""
