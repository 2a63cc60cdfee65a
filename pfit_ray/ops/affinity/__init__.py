"""Affinities of AffinityNet, and the random walk over them."""
