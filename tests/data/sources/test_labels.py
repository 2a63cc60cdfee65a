import pytest

from pfit_ray.constants import ClassList
from pfit_ray.data.sources.labels import label_keys, split_names
from pfit_ray.data.sources.notes import Notes
from pfit_ray.errors import RowError

CLASSES = ClassList(("cat", "dog", "red car"))


@pytest.mark.parametrize(("names", "keys"), [([], ()), (["dog", "cat", "dog"], (1, 2)), (["red car"], (3,))])
def test_keys_are_ascending_and_once(names: list[str], keys: tuple[int, ...]) -> None:
    found = label_keys(names, CLASSES, ignore_unknown=False)
    assert found == keys
    assert all(type(key) is int for key in found)


def test_case_and_the_form_of_accents_do_not_matter_where_one_class_fits() -> None:
    notes = Notes()
    classes = ClassList(("Café", "cat", "Dog", "dog"))
    assert label_keys(["cafe\u0301", "CAT", "Dog"], classes, False, notes) == (1, 2, 3)
    assert [note.count for note in notes] == [2]
    with pytest.raises(RowError, match=r"class 'DOG' is not in data.classes, which holds 'Dog' and 'dog'"):
        label_keys(["DOG"], classes, ignore_unknown=False)
    assert label_keys(["gnu", "dog"], classes, True, notes) == (4,)
    assert [(note.count, note.example) for note in notes][1:] == [(1, "gnu")]


def test_a_text_that_can_be_read_in_two_ways() -> None:
    known = {"bus", "truck", "bus, truck"}
    assert split_names("bus, truck", known) == ["bus, truck"]
    assert split_names('["bus", "truck"]', known) == ["bus", "truck"]
    with pytest.raises(RowError, match=r"one class or 2: separate classes by ';', or write a list such as"):
        split_names("van, bus, truck", known)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Doog", "class 'Doog' is not in data.classes .did you mean 'dog'?."),
        ("redcar", "did you mean 'red car'"),
        ("zebra", "class 'zebra' is not in data.classes; add it or set data.unknown_classes=ignore"),
    ],
)
def test_unknown_class(name: str, words: str) -> None:
    with pytest.raises(RowError, match=words) as caught:
        label_keys(["cat", name], CLASSES, ignore_unknown=False)
    assert caught.value.reason == "unknown_class"
    assert label_keys(["cat", name], CLASSES, ignore_unknown=True) == (1,)
