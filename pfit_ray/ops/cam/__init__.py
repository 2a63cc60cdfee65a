"""Class activation maps: resized, fitted, combined, pooled, thresholded."""
