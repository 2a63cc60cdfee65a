import numpy as np
from PIL import Image, ImageDraw


def pillow_flood_fill(picture, row, column, tolerance=10):
    image = Image.fromarray(picture)
    ImageDraw.floodfill(image, (column, row), (0, 0, 0), thresh=tolerance)
    return np.array(image)


def pillow_fit_masks(picture, perimeter, hr_cam, *, cam_threshold, edge_threshold, clip_to_cam):
    picture = (picture / max(picture.max(), 1) * 255).astype(np.uint8)
    edges = perimeter > edge_threshold
    height, width = perimeter.shape
    masks = np.zeros(hr_cam.shape, dtype=bool)
    for mask, cam in zip(masks, hr_cam, strict=True):
        rough = cam > cam_threshold
        image = Image.fromarray(picture)
        for y, x in np.ndindex(height - 1, width - 1):
            if not rough[y, x]:
                ImageDraw.floodfill(image, (x, y), (0, 0, 0), thresh=10)
        mask[:] = (np.array(image).sum(axis=2) > 0) | edges
        if clip_to_cam:
            mask &= rough
    return masks
