import pytest

from pfit_ray.constants import VOC_CLASSES
from pfit_ray.nets.imagenet import all_classes, find_classes, groups, search_classes, zero_shot_sets


def test_classes_have_their_numbers_ids_and_names() -> None:
    assert len(all_classes()) == 1000
    tabby = all_classes()[281]
    assert (tabby.wordnet_id, tabby.names) == ("n02123045", ("tabby", "tabby cat"))


@pytest.mark.parametrize(
    ("word", "indices"),
    [
        (281, (281,)),
        ("281", (281,)),
        ("n02123045", (281,)),
        ("tabby", (281,)),
        ("Tabby Cat", (281,)),
        ("persian-cat", (283,)),
        ("cat", (281, 282, 283, 284, 285)),
        ("diningtable", (532,)),
        ("jack o' lantern", (607,)),
        ("dog", tuple(range(151, 269))),
        ("automobile", find_classes("car")),
    ],
)
def test_a_word_means_classes(word: int | str, indices: tuple[int, ...]) -> None:
    assert find_classes(word) == indices


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("crane", "134 crane.*517 crane.*give the number"),
        ("tabbi", "did you mean tabby"),
        ("poodle", "did you mean .*poodle"),
        ("1000", "not in 0 ... 999"),
        (-1, "not in 0 ... 999"),
        ("", "not an ImageNet class"),
        ("xyzzyq", "not an ImageNet class; "),
    ],
)
def test_a_word_that_means_nothing_or_too_much_is_refused(word: int | str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        find_classes(word)


@pytest.mark.parametrize(
    ("word", "first", "last", "outside"),
    [
        ("dog", "Chihuahua", "Mexican hairless", ["sea lion", "timber wolf"]),
        ("cat", "tabby", "Egyptian cat", ["grey fox", "cougar"]),
        ("bird", "cock", "albatross", ["stingray", "tusker", "hermit crab", "grey whale"]),
        ("insect", "tiger beetle", "lycaenid", ["meerkat", "starfish"]),
        ("snake", "thunder snake", "sidewinder", ["triceratops", "trilobite"]),
        ("big cat", "cougar", "cheetah", ["Egyptian cat", "brown bear"]),
        ("monkey", "guenon", "squirrel monkey", ["siamang", "Madagascar cat"]),
        ("fruit", "Granny Smith", "pomegranate", ["mushroom", "hay"]),
        ("car", "beach wagon", "sports car", ["car mirror", "cab driver", "freight car"]),
    ],
)
def test_groups_hold_what_their_word_says(word: str, first: str, last: str, outside: list[str]) -> None:
    names = [all_classes()[index].names[0] for index in groups()[word]]
    assert (names[0], names[-1]) == (first, last)
    assert not set(names) & set(outside)


def test_groups_hold_each_class_once() -> None:
    for indices in groups().values():
        assert list(indices) == sorted(set(indices))
        assert 0 <= indices[0] <= indices[-1] < 1000


def test_classes_of_voc_need_an_entry_only_where_imagenet_has_none() -> None:
    unknown = []
    for name in VOC_CLASSES:
        try:
            zero_shot_sets([name], {})
        except ValueError:
            unknown.append(name)
    assert unknown == ["person"]


def test_entries_come_before_the_class_s_own_name() -> None:
    assert zero_shot_sets(["cat", "cup"], {"cat": ["tabby", 283, "n02123045"]}) == [(281, 283), (968,)]
    with pytest.raises(ValueError, match=r"class 'flumph': 'flumph' .*classifier.zero_shot.flumph"):
        zero_shot_sets(["cat", "flumph"], {})
    with pytest.raises(ValueError, match="class 'cat': 'tabbi'"):
        zero_shot_sets(["cat"], {"cat": ["tabbi"]})


def test_search_finds_groups_names_and_where_no_name_has_it_definitions() -> None:
    group, found = search_classes("cat")
    assert group == (281, 282, 283, 284, 285)
    assert {281, 282, 283, 284, 285} <= {one.number for one in found}
    group, found = search_classes("domestic")
    assert group == ()
    assert all("domestic" in one.definition for one in found)
    assert search_classes("") == ((), [])
