import numpy as np


def slow_majority_vote(labels, superpixels):
    voted = np.empty_like(labels)
    for superpixel in np.unique(superpixels):
        inside = superpixels == superpixel
        values, counts = np.unique(labels[inside], return_counts=True)
        voted[inside] = values[np.argmax(counts)]
    return voted
