"""SLIC and quickshift superpixels."""
