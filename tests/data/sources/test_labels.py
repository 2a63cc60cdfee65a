import pytest

from pfit_ray.constants import ClassList
from pfit_ray.data.sources.labels import label_keys
from pfit_ray.errors import RowError

CLASSES = ClassList(("cat", "dog", "red car"))


@pytest.mark.parametrize(("names", "keys"), [([], ()), (["dog", "cat", "dog"], (1, 2)), (["red car"], (3,))])
def test_keys_are_ascending_and_once(names: list[str], keys: tuple[int, ...]) -> None:
    found = label_keys(names, CLASSES, ignore_unknown=False)
    assert found == keys
    assert all(type(key) is int for key in found)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Dog", "class 'Dog' is not in data.classes .did you mean 'dog'?."),
        ("redcar", "did you mean 'red car'"),
        ("zebra", "class 'zebra' is not in data.classes; add it or set data.unknown_classes=ignore"),
    ],
)
def test_unknown_class(name: str, words: str) -> None:
    with pytest.raises(RowError, match=words) as caught:
        label_keys(["cat", name], CLASSES, ignore_unknown=False)
    assert caught.value.reason == "unknown_class"
    assert label_keys(["cat", name], CLASSES, ignore_unknown=True) == (1,)
