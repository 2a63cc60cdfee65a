import numpy as np
import pytest

from pfit_ray.constants import MAX_CLASSES, REASONS, VOC_CLASSES, ClassList, strided_size, voc_palette


def test_class_ids_start_at_one() -> None:
    classes = ClassList(("cat", "dog", "cow"))
    assert classes.ids == {"cat": 1, "dog": 2, "cow": 3}
    assert [classes.name(number) for number in range(4)] == ["background", "cat", "dog", "cow"]
    assert len(classes) == 3


def test_keys_ascend_and_stand_once() -> None:
    keys = ClassList(("cat", "dog", "cow")).keys(["cow", "cat", "cow"])
    np.testing.assert_array_equal(keys, np.array([1, 3], dtype=np.int32), strict=True)
    assert ClassList(("cat",)).keys([]).shape == (0,)
    with pytest.raises(KeyError, match="horse"):
        ClassList(("cat",)).keys(["horse"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "1 to 254 classes, not 0"),
        (tuple(f"c{number}" for number in range(MAX_CLASSES + 1)), "1 to 254 classes, not 255"),
        (("b", "a", "b"), "class 'b'"),
    ],
)
def test_wrong_class_lists(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClassList(names)


def test_largest_class_list() -> None:
    assert ClassList(tuple(f"c{number}" for number in range(MAX_CLASSES))).name(254) == "c253"


@pytest.mark.parametrize(("size", "strided"), [(1, 1), (4, 1), (5, 2), (8, 2), (500, 125), (375, 94)])
def test_strided_size(size: int, strided: int) -> None:
    assert strided_size(size, 1) == (strided, 1)
    assert strided_size(1, size) == (1, strided)


def test_voc_palette() -> None:
    palette = voc_palette()
    assert (palette.shape, palette.dtype) == ((256, 3), np.uint8)
    assert palette[[0, 1, 2, 8, 15, 20, 255]].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [64, 0, 0],
        [192, 128, 128],
        [0, 64, 128],
        [224, 224, 192],
    ]
    assert len(np.unique(palette, axis=0)) == 256


def test_voc_classes_stand_in_the_order_of_their_ids() -> None:
    assert len(VOC_CLASSES) == 20
    assert list(VOC_CLASSES) == sorted(VOC_CLASSES)


def test_every_reason_has_its_meaning() -> None:
    assert all(meaning for meaning in REASONS.values())
