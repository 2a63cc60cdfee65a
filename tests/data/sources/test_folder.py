import os
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pfit_ray import storage
from pfit_ray.config.data import DataConfig
from pfit_ray.data.sources.folder import list_folder
from pfit_ray.data.sources.item import Item, is_plain
from pfit_ray.data.sources.notes import Notes
from pfit_ray.errors import UserError


@pytest.fixture(params=["local", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "photos") if request.param == "local" else f"memory://{tmp_path.name}"


def fill(root: str, *names: str) -> None:
    for name in names:
        storage.write_bytes(storage.join(root, name), b"x")


def listed(root: str, notes: Notes | None = None, **fields: Any) -> list[Item]:
    return list(list_folder(DataConfig(source="folder", root=root, classes=("cat", "dog"), **fields), notes or Notes()))


def ids(root: str, **fields: Any) -> dict[str, str]:
    return {item.uri.removeprefix(root + "/"): item.image_id for item in listed(root, **fields)}


def test_every_image_below_sorted_by_path(root: str) -> None:
    images = ["B.JPG", "a.jpeg", "a0.webp", "sub/x.png", "sub/deep/y.TIFF", "z.gif", "z1.bmp", "z2.tif"]
    fill(root, *images, "notes.txt", "labels.csv", "jpg", ".hidden.jpg", ".cache/a.jpg", "sub/._x.png")
    items = listed(root)
    assert [item.uri for item in items] == [f"{root}/{name}" for name in sorted(images)]
    assert {(item.keys, item.mask_uri, item.reason) for item in items} == {(None, None, None)}


def test_plain_names_at_the_top_are_their_own_ids(root: str) -> None:
    fill(root, "a.jpg", "IMG_20-1.JPG")
    assert ids(root) == {"a.jpg": "a", "IMG_20-1.JPG": "IMG_20-1"}


def test_other_names_get_a_hash_of_their_path(root: str) -> None:
    fill(root, "sub/a.jpg", "a b.jpg", "a.b.jpg", "a_b.jpg", "é.jpg")
    assert ids(root) == {
        "sub/a.jpg": "sub_a-bd618b8bf23cf390",
        "a b.jpg": "a_b-5e30dffb347d3ccd",
        "a.b.jpg": "a_b-28f177c16885a6d6",
        "a_b.jpg": "a_b",
        "é.jpg": "_-5fd35855b76111bb",
    }


def test_ids_do_not_depend_on_what_else_is_there(root: str) -> None:
    fill(root, "sub/a.jpg", "a b.jpg", "c.jpg")
    before = ids(root)
    fill(root, "sub/b.jpg", "ab.jpg", "a.jpg", "other/c.jpg", "c.d.jpg")
    after = ids(root)
    assert {name: after[name] for name in before} == before


def test_images_that_share_a_stem_all_get_a_hash(root: str) -> None:
    fill(root, "a.jpg", "a.k.png", "a.z/b.jpg", "a.png", "a.JPG", "a-1.jpg", "b.jpg", "sub/a.jpg")
    found = ids(root)
    assert len(set(found.values())) == len(found)
    assert all(is_plain(image_id) for image_id in found.values())
    for name in ("a.jpg", "a.png", "a.JPG"):
        assert found[name].startswith("a-")
        assert len(found[name]) == 18
    assert (found["a-1.jpg"], found["b.jpg"]) == ("a-1", "b")
    assert [item.uri for item in listed(root)] == sorted(item.uri for item in listed(root))


def test_listing_is_lazy(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(root, *(f"{folder}/x.jpg" for folder in "abc"), *(f"dot.{number}.jpg" for number in range(5)))
    pulled = []
    list_entries = storage.list_entries

    def counted(url: str) -> Iterator[storage.Entry]:
        for entry in list_entries(url):
            pulled.append(entry)
            yield entry

    monkeypatch.setattr(storage, "list_entries", counted)
    items = list_folder(DataConfig(source="folder", root=root, classes=("cat",)), Notes())
    for _ in range(5):
        next(items)
    assert len(pulled) == 5


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["a.jpg"]),
        ("sub/?.jpg", ["sub/b.jpg"]),
        ("**/*.jpg", ["a.jpg", "sub/b.jpg", "sub/deep/c.jpg"]),
        ("sub/**/[bc].*", ["sub/b.jpg", "sub/deep/c.jpg"]),
        ("s*/x.png", ["sub/x.png"]),
    ],
)
def test_patterns(root: str, pattern: str, expected: list[int]) -> None:
    fill(root, "a.jpg", "sub/b.jpg", "sub/deep/c.jpg", "sub/x.png")
    assert [item.uri for item in listed(f"{root}/{pattern}")] == [f"{root}/{name}" for name in expected]


def test_folder_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    fill(str(tmp_path / "set [1]"), "a.jpg")
    assert [item.image_id for item in listed(str(tmp_path / "set [1]"))] == ["a"]


def test_root_may_be_one_image_or_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(str(tmp_path), "a.jpg", "b.jpg")
    assert [(item.image_id, item.uri) for item in listed(str(tmp_path / "a.jpg"))] == [("a", f"{tmp_path}/a.jpg")]
    monkeypatch.chdir(tmp_path)
    for relative in (".", "*.jpg"):
        assert [item.uri for item in listed(relative)] == [f"{tmp_path}/a.jpg", f"{tmp_path}/b.jpg"]


def test_labels_of_a_table(root: str, tmp_path: Path) -> None:
    fill(root, "a.jpg", "b.jpg", "c.jpg", "sub/d.jpg", "e.jpg")
    table = tmp_path / "labels.csv"
    table.write_text("image,classes\na.jpg,dog cat\nb,\nsub/d.jpg,dgo\ngone.jpg,cat\ne,cat;gnu\n")
    notes = Notes()
    a, b, c, e, d = listed(root, notes, labels=str(table))
    assert (a.keys, b.keys) == ((1, 2), ())
    assert (c.keys, c.reason) == (None, "no_label")
    assert (d.keys, d.reason, d.message) == (
        None,
        "unknown_class",
        "class 'dgo' is not in data.classes (did you mean 'dog'?)",
    )
    assert e.reason == "unknown_class"
    assert [(note.count, note.example) for note in notes] == [(1, "gone.jpg")]
    assert listed(root, labels=str(table), unknown_classes="ignore")[3].keys == (1,)


def test_masks_by_relative_path_or_id(root: str) -> None:
    fill(root, "a.jpg", "b.jpg", "sub/c.jpg", "sub/d e.jpg")
    masks = root + "-masks"
    name = ids(root)["sub/d e.jpg"]
    fill(masks, "a.png", "sub/c.PNG", f"{name}.png", "other.png", "b.txt")
    assert [item.mask_uri for item in listed(root, masks=masks)] == [
        f"{masks}/a.png",
        None,
        f"{masks}/sub/c.PNG",
        f"{masks}/{name}.png",
    ]


@pytest.mark.parametrize("place", ["", "/masks"])
def test_masks_below_the_images_are_not_images(root: str, place: str) -> None:
    fill(root, "a.jpg", f"{place}/a.png")
    assert [(item.image_id, item.mask_uri) for item in listed(root, masks=root + place)] == [
        ("a", f"{root}{place}/a.png")
    ]


def test_size_and_version_are_those_of_the_listing(root: str) -> None:
    storage.write_bytes(f"{root}/a.jpg", b"123")
    (before,) = listed(root)
    assert (before.size, before.offset, before.row) == (3, None, None)
    assert before.version
    assert listed(root) == [before]
    time.sleep(0.01)
    storage.write_bytes(f"{root}/a.jpg", b"1234")
    (after,) = listed(root)
    assert after.size == 4
    assert after.version != before.version


def test_neither_table_nor_masks_nor_images_are_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 images, whose labels, masks and entries take 10 MB together."""
    root, masks, table = str(tmp_path / "photos"), str(tmp_path / "masks"), tmp_path / "labels.csv"
    fill(root, "a.jpg")
    fill(masks, "a.png")
    names = [f"{number:06d}" for number in range(20_000)]
    table.write_text("image,classes\n" + "".join(f"{name},cat;dog\n" for name in names))

    def entries(url: str) -> Iterator[storage.Entry]:
        suffix = "png" if url == masks else "jpg"
        return (storage.Entry(f"{url}/{name}.{suffix}", 1, f"{name:>040}") for name in names)

    monkeypatch.setattr(storage, "list_entries", entries)
    data = DataConfig(source="folder", root=root, labels=str(table), masks=masks, classes=("cat", "dog"))
    tracemalloc.start()
    items = list_folder(data, Notes())
    assert sum(item.keys == (1, 2) and item.mask_uri == f"{masks}/{item.image_id}.png" for item in items) == 20_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3e6


def test_missing_places(root: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.root: there is no folder"):
        listed(root)
    fill(root, "a.jpg")
    with pytest.raises(UserError, match=r"data.masks: there is no folder"):
        listed(root, masks=str(tmp_path / "gone"))
    with pytest.raises(UserError, match=r"data.labels: there is no file"):
        listed(root, labels=str(tmp_path / "gone.csv"))


def test_file_name_that_is_not_utf8(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/\xff.jpg", "wb"):
        pass
    (item,) = listed(str(tmp_path))
    assert item.reason == "bad_id"
    assert is_plain(item.image_id)
    item.uri.encode()
    assert item.message
    item.message.encode()


def test_real_images(voc_animals: Path) -> None:
    labels = voc_animals / "labels.csv"
    classes = ("cat", "cow", "dog", "horse", "person", "sheep")
    data = DataConfig(
        source="folder",
        root=str(voc_animals / "JPEGImages"),
        classes=classes,
        labels=str(labels),
        masks=str(voc_animals / "SegmentationClass"),
    )
    items = list(list_folder(data, Notes()))
    assert len(items) == 1200
    assert all(item.keys and item.mask_uri and item.reason is None for item in items)
    assert (items[1].image_id, items[1].keys) == ("2007_000392", (4, 5))


def test_images_that_this_machine_cannot_read_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.JPG", "b.jfif", "c.JPE", "d.HEIC", "e.heic", "f.psd"):
        (tmp_path / name).touch()
    monkeypatch.setattr("pfit_ray.data.images._OPTIONAL", {"HEIF": (False, "the package pillow-heif")})
    monkeypatch.setattr("pfit_ray.data.sources.folder.IMAGE_SUFFIXES", (".jpg", ".jfif", ".jpe"))
    notes = Notes()
    data = DataConfig(source="folder", root=str(tmp_path), classes=("cat",))
    assert [item.image_id for item in list_folder(data, notes)] == ["a", "b", "c"]
    heic, psd = notes
    assert (heic.what[-5:], heic.count, "pillow-heif" in heic.remedy) == (".heic", 2, True)
    assert (psd.what[-4:], psd.count, psd.remedy) == (".psd", 1, "")


def test_masks_that_match_no_image_are_told_of(root: str) -> None:
    fill(root, "photos/a.jpg", "photos/b.jpg", "masks/a_mask.png", "masks/b.png", "masks/c_mask.png")
    notes = Notes()
    items = listed(f"{root}/photos", notes, masks=f"{root}/masks")
    assert [item.mask_uri for item in items] == [None, f"{root}/masks/b.png"]
    (note,) = notes
    assert (note.count, note.example, "data.masks" in note.what) == (2, "a_mask", True)
