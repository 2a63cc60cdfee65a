from pfit_ray import storage
from pfit_ray.config.data import DataConfig
from pfit_ray.data.images import decode_image
from pfit_ray.data.sources.notes import Notes
from pfit_ray.data.sources.samples import list_samples


def test_photographs_and_their_classes() -> None:
    data = DataConfig(source="samples")
    items = list(list_samples(data, Notes()))
    assert [(item.image_id, [data.class_list.name(key) for key in item.keys or ()]) for item in items] == [
        ("chelsea", ["cat"]),
        ("coffee", ["cup"]),
        ("motorcycle_left", ["motorbike"]),
        ("motorcycle_right", ["motorbike"]),
        ("rocket", ["rocket"]),
    ]
    for item in items:
        assert item.mask_uri is None
        assert item.reason is None
        assert decode_image(storage.fetch(item.uri), 1_000_000).shape[2] == 3


def test_other_class_list() -> None:
    data = DataConfig(source="samples", classes=("cup", "cat"))
    assert [(item.image_id, item.keys) for item in list_samples(data, Notes())] == [("chelsea", (2,)), ("coffee", (1,))]
