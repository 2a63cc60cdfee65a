"""Class ids of ground truth masks in the terms of the run."""

import numpy as np
from numpy.typing import NDArray

from pfit_ray.config.data import DataConfig
from pfit_ray.constants import BACKGROUND, IGNORE, VOC_CLASSES


def mask_lookup(data: DataConfig) -> NDArray[np.uint8]:
    """Table from the values of a mask to the run's class ids: `lookup[mask]`.

    Source voc with some of VOC's own classes, in any order: each class goes to its id in this run, VOC's
    other classes to background. Everything else, such as own classes in a VOC folder, keeps its values, and
    values that mean nothing stay too, so that they can be reported.

    Returns:
        uint8 (256,); 255 (ignore) stays 255.
    """
    lookup = np.arange(IGNORE + 1, dtype=np.uint8)
    classes = data.class_list
    if data.source == "voc" and set(classes.names) <= set(VOC_CLASSES):
        for voc_id, name in enumerate(VOC_CLASSES, start=1):
            lookup[voc_id] = classes.ids.get(name, BACKGROUND)
    return lookup
