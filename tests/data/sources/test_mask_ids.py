import numpy as np

from pfit_ray.config.data import DataConfig
from pfit_ray.constants import VOC_CLASSES
from pfit_ray.data.sources.mask_ids import mask_lookup


def test_voc_in_its_own_order_is_identity() -> None:
    lookup = mask_lookup(DataConfig(source="voc", root="x"))
    assert lookup.dtype == np.uint8
    assert lookup.tolist() == list(range(256))


def test_some_voc_classes_in_another_order() -> None:
    lookup = mask_lookup(DataConfig(source="voc", root="x", classes=("dog", "cat")))
    mask = np.array([[0, 8, 12, 15], [255, 8, 20, 33]], dtype=np.uint8)
    assert lookup[mask].tolist() == [[0, 2, 1, 0], [255, 2, 0, 33]]


def test_own_classes_keep_their_values() -> None:
    for source in ("voc", "folder"):
        lookup = mask_lookup(DataConfig(source=source, root="x", classes=("dog", "gadget")))
        assert lookup.tolist() == list(range(256))
    assert mask_lookup(DataConfig(source="folder", root="x", classes=VOC_CLASSES[::-1]))[1] == 1
