import numpy as np


def slow_components(labels):
    height, width = labels.shape
    components = np.full(labels.shape, -1)
    count = 0
    for start in np.ndindex(height, width):
        if components[start] >= 0:
            continue
        pending = [start]
        while pending:
            y, x = pending.pop()
            if not (0 <= y < height and 0 <= x < width) or components[y, x] >= 0:
                continue
            if labels[y, x] == labels[start]:
                components[y, x] = count
                pending += [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        count += 1
    return components, count


def slow_fit_masks(components, perimeter, hr_cam, threshold):
    masks = np.zeros(hr_cam.shape, dtype=bool)
    for mask, cam in zip(masks, hr_cam, strict=True):
        for component in np.unique(components):
            inside = components == component
            mask[inside] = (cam[inside] > threshold).all()
        mask |= perimeter & (cam > threshold)
    return masks
