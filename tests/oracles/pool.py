import numpy as np
from oracles.cam import slow_resize


def slow_pool(hr_cam, label_maps):
    """Each pixel by itself: the mean over all pixels of its own region, then over the label maps."""
    pooled = np.zeros(hr_cam.shape)
    for k, y, x in np.ndindex(hr_cam.shape):
        means = [
            np.mean([hr_cam[k, v, u] for v, u in np.ndindex(labels.shape) if labels[v, u] == labels[y, x]])
            for labels in label_maps
        ]
        pooled[k, y, x] = sum(means) / len(means)
    return pooled


def slow_pool_fit(hr_cam, label_maps, masks):
    pooled = slow_pool(hr_cam, label_maps)
    for k, y, x in np.ndindex(hr_cam.shape):
        if all(mask[k, y, x] for mask in masks):
            pooled[k, y, x] *= 2
    return pooled


def slow_pool_fit_cam(hr_cam, label_maps, masks, height, width):
    strided = slow_resize(slow_pool(hr_cam, label_maps), height, width)
    for mask in masks[:1]:
        agreed = slow_resize(mask, height, width)
    for mask in masks[1:]:
        agreed = agreed * slow_resize(mask, height, width)
    return strided * (1 + agreed)


def slow_pool_walk(hr_walk, label_maps):
    """The mean of the map and of the pooled map of each source."""
    maps = [hr_walk, *(slow_pool(hr_walk, [labels]) for labels in label_maps)]
    return sum(maps) / len(maps)
