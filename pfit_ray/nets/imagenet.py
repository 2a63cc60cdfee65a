"""ImageNet's 1,000 classes by number, WordNet id, name, or the everyday word for a group of them."""

import difflib
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

CLASSES = 1000
_NEAREST = 3

_GROUPS = {
    "aeroplane, airplane": "404 895",
    "amphibian": "25-32",
    "antelope": "351-353",
    "ape": "365-369",
    "ball": "429-430 522 574 722 768 805 852 890",
    "bear": "294-297",
    "beetle": "300-307",
    "bicycle, bike": "444 671",
    "big cat": "286-293",
    "bird": "7-24 80-100 127-146",
    "boat": "472 484 554 576 625 780 814 871 914",
    "bottle": "440 720 737 898 907",
    "bus": "654 779 874",
    "butterfly": "321-326",
    "camera": "732 759",
    "car, automobile": "436 468 511 609 627 656 661 751 817",
    "cat": "281-285",
    "cattle": "345",
    "chair": "423 559 765",
    "clock": "409 530 892",
    "couch, sofa": "831",
    "cow": "345",
    "crab": "118-121",
    "dog": "151-268",
    "elephant": "101 385-386",
    "fish": "0-6 389-397",
    "fox": "277-280",
    "frog": "30-32",
    "fruit": "948-957",
    "guitar": "402 546",
    "horse": "339",
    "insect": "300-326",
    "lizard": "38-48",
    "monkey": "370-382",
    "motorbike, motorcycle": "665 670",
    "mushroom": "947 992 996-997",
    "phone, telephone": "487 528 707",
    "piano": "579 881",
    "potted plant, houseplant": "738",
    "rabbit": "330-332",
    "shark": "2-4",
    "sheep": "348-349",
    "ship": "403 510 628 724",
    "snake": "52-68",
    "spider": "72-77",
    "squirrel": "335",
    "table": "526 532 736",
    "train": "466 547 705 820",
    "truck, lorry": "555 569 675 717 864 867",
    "turtle": "33-37",
    "tv, tvmonitor, tv monitor": "664 782 851",
    "whale": "147-148",
    "wolf": "269-271",
}
"""Everyday words, synonyms together, and the ImageNet classes that they stand for; WordNet's tree is finer."""


class ImageNetClass(NamedTuple):
    """One class: its number (0..999), WordNet id, names, and what it is."""

    number: int
    wordnet_id: str
    names: tuple[str, ...]
    definition: str

    def __str__(self) -> str:
        return f"{self.number} {', '.join(self.names)} ({self.wordnet_id})"


@cache
def all_classes() -> tuple[ImageNetClass, ...]:
    """The 1,000 classes in the order of their numbers, as timm knows them."""
    from timm.data import ImageNetInfo  # imports torch, which takes seconds

    info = ImageNetInfo("imagenet-1k")
    found = []
    for number, wordnet_id in enumerate(info.label_names()):
        names, _, definition = info.label_name_to_description(wordnet_id, detailed=True).partition(": ")
        found.append(ImageNetClass(number, wordnet_id, tuple(name.strip() for name in names.split(",")), definition))
    return tuple(found)


@cache
def groups() -> dict[str, tuple[int, ...]]:
    """Class numbers by everyday word."""
    found = {}
    for words, ranges in _GROUPS.items():
        numbers: list[int] = []
        for one in ranges.split():
            first, _, last = one.partition("-")
            numbers += range(int(first), int(last or first) + 1)
        found.update(dict.fromkeys(words.split(", "), tuple(numbers)))
    return found


def find_classes(word: int | str) -> tuple[int, ...]:
    """The classes that a number, a WordNet id, a name or a group's word means.

    Capitals, accents, blanks, hyphens and apostrophes do not count: `diningtable` is `dining table`. A group comes
    before a class of the same name.

    Raises:
        ValueError: when the word means nothing (it names near words) or several classes (it names their numbers).
    """
    text = str(word).strip()
    if text.lstrip("-").isdigit():
        if not 0 <= int(text) < CLASSES:
            raise ValueError(f"ImageNet index {text} is not in 0 ... {CLASSES - 1}")
        return (int(text),)
    key = _key(text)
    if key in _group_keys():
        return _group_keys()[key]
    found = _class_keys().get(key, ())
    if len(found) > 1:
        told = "; ".join(str(all_classes()[index]) for index in found)
        raise ValueError(f"{text!r} is the name of several ImageNet classes: {told}; give the number")
    if not found:
        raise ValueError(f"{text!r} is not an ImageNet class{_nearest(key)}; pfit-ray classes WORD lists them")
    return found


def search_classes(word: str) -> tuple[tuple[int, ...], list[ImageNetClass]]:
    """What `pfit-ray classes` lists: the group of this word, if any, and the classes whose name is or contains it.

    The classes come in the order of their numbers. Names are searched first, then definitions if no name has the word.
    """
    key = _key(word)
    group = _group_keys().get(key, ())
    named = [one for one in all_classes() if key and any(key in _key(name) for name in (*one.names, one.wordnet_id))]
    if not named and not group:
        named = [one for one in all_classes() if key and key in _key(one.definition)]
    return group, named


def zero_shot_sets(classes: Sequence[str], entries: Mapping[str, Sequence[int | str]]) -> list[tuple[int, ...]]:
    """The ImageNet classes of each class of a run; a class without an entry is looked up by its own name.

    Args:
        classes: names of the foreground classes.
        entries: for some of them, what each stands for; see `find_classes`.

    Returns:
        For each class, ascending class numbers, each once.

    Raises:
        ValueError: names the class and the word that means nothing.
    """
    found = []
    for name in classes:
        try:
            found.append(tuple(sorted({index for word in entries.get(name, (name,)) for index in find_classes(word)})))
        except ValueError as error:
            hint = "" if name in entries else f"; classifier.zero_shot.{name} says what it stands for"
            raise ValueError(f"class {name!r}: {error}{hint}") from error
    return found


def _key(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in plain if letter.isalnum())


@cache
def _group_keys() -> dict[str, tuple[int, ...]]:
    return {_key(word): indices for word, indices in groups().items()}


@cache
def _class_keys() -> dict[str, tuple[int, ...]]:
    found: dict[str, list[int]] = defaultdict(list)
    for one in all_classes():
        for key in dict.fromkeys(_key(name) for name in (*one.names, one.wordnet_id)):
            found[key].append(one.number)
    return {key: tuple(indices) for key, indices in found.items()}


def _nearest(key: str) -> str:
    words = {**{_key(word): word for word in groups()}, **{_key(n): n for one in all_classes() for n in one.names}}
    inside = sorted((len(other), words[other]) for other in words if len(key) > 2 and key in other)
    near = [word for _, word in inside[:_NEAREST]]
    near += [words[other] for other in difflib.get_close_matches(key, words, n=_NEAREST) if words[other] not in near]
    return f" (did you mean {', '.join(near[:_NEAREST])}?)" if near else ""
