import threading
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from pfit_ray import storage
from pfit_ray.config.data import DataConfig
from pfit_ray.data.images import decode_mask
from pfit_ray.data.sources import voc
from pfit_ray.data.sources.item import Item
from pfit_ray.data.sources.notes import Notes
from pfit_ray.data.sources.voc import list_voc
from pfit_ray.errors import UserError


@pytest.fixture(params=["local", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A small VOC folder: ids a to e, masks of a and c, an XML of all but e."""
    root = str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}"
    names = {"a": ("dog", "cat"), "b": (), "c": ("person",), "d": ("gnu",)}
    for name in "abcde":
        storage.write_bytes(f"{root}/JPEGImages/{name}.jpg", b"x")
    for name, objects in names.items():
        entries = "".join(f"<object><name>{thing}</name></object>" for thing in objects)
        storage.write_bytes(f"{root}/Annotations/{name}.xml", f"<annotation>{entries}</annotation>".encode())
    for name in "ac":
        storage.write_bytes(f"{root}/SegmentationClass/{name}.png", b"x")
    lists = {"train": "c\na\n", "val": "\ufeffb\r\n\r\n", "trainval": "e 1\nd -1"}
    for name, text in lists.items():
        storage.write_bytes(f"{root}/ImageSets/Segmentation/{name}.txt", text.encode())
    return root


def config(root: str, **fields: Any) -> DataConfig:
    return DataConfig(source="voc", root=root, **fields)


def ids(items: Iterable[Item]) -> list[str]:
    return [item.image_id for item in items]


def test_items_of_a_list_keep_its_order(root: str) -> None:
    c, a = list_voc(config(root), "train", Notes())
    assert (a.image_id, a.uri, a.keys) == ("a", f"{root}/JPEGImages/a.jpg", (8, 12))
    assert a.mask_uri == f"{root}/SegmentationClass/a.png"
    assert (c.image_id, c.keys, c.reason) == ("c", (15,), None)
    (b,) = list_voc(config(root), "val", Notes())
    assert (b.image_id, b.keys, b.mask_uri, b.reason) == ("b", (), None, None)


def test_all_images(root: str) -> None:
    storage.write_bytes(f"{root}/JPEGImages/notes.txt", b"x")
    storage.write_bytes(f"{root}/JPEGImages/below/z.jpg", b"x")
    assert ids(list_voc(config(root), None, Notes())) == ["a", "b", "c", "d", "e"]


def test_label_problems_are_in_the_item(root: str) -> None:
    e, d = list_voc(config(root), "trainval", Notes())
    assert (e.keys, e.reason) == (None, "no_label")
    assert "Annotations/e.xml does not exist" in (e.message or "")
    assert (d.keys, d.reason) == (None, "unknown_class")
    assert "'gnu'" in (d.message or "")
    storage.write_bytes(f"{root}/Annotations/e.xml", b"")
    storage.write_bytes(f"{root}/Annotations/d.xml", b"<anno")
    assert [item.reason for item in list_voc(config(root), "trainval", Notes())] == ["no_label", "no_label"]


def test_unknown_classes_can_be_ignored(root: str) -> None:
    data = config(root, unknown_classes="ignore", classes=("cat", "person"))
    assert [item.keys for item in islice(list_voc(data, None, Notes()), 4)] == [(1,), (), (2,), ()]


def test_no_annotations_means_unknown_labels(root: str) -> None:
    storage.remove(f"{root}/Annotations")
    assert {(item.keys, item.reason) for item in list_voc(config(root), None, Notes())} == {(None, None)}


def test_split_is_a_file(root: str, tmp_path: Path) -> None:
    url = str(tmp_path / "mine.txt")
    storage.write_bytes(url, b"b extra\nc\n")
    assert ids(list_voc(config(root), url, Notes())) == ["b", "c"]
    assert ids(list_voc(config(root), f"{root}/ImageSets/Segmentation/val.txt", Notes())) == ["b"]


def test_lists_with_the_ground_truth_in_a_second_column(root: str, tmp_path: Path) -> None:
    storage.write_bytes(f"{root}/SegmentationClassAug/b.png", b"x")
    storage.write_bytes(f"{root}/JPEGImages/my photo.PNG", b"x")
    url, notes = str(tmp_path / "mine.txt"), Notes()
    lines = (
        "/JPEGImages/b.jpg /SegmentationClassAug/b.png",
        "a.jpg /../secret/a.png",
        "my photo 1",
        "e /Nowhere/e.png",
    )
    storage.write_bytes(url, "\n".join(lines).encode())
    b, a, photo, e = list_voc(config(root), url, notes)
    assert b.mask_uri == f"{root}/SegmentationClassAug/b.png"
    assert a.mask_uri is None
    assert (photo.uri, photo.reason) == (f"{root}/JPEGImages/my photo.PNG", "no_label")
    assert e.mask_uri is None
    assert [(note.count, note.example) for note in notes] == [(2, "/../secret/a.png")]


def test_unsafe_ids_are_failed_items(root: str, tmp_path: Path) -> None:
    url = str(tmp_path / "mine.txt")
    storage.write_bytes(url, "../../etc/passwd\n..\n/a\nb\\c\n.a\na\x07\na.b\nfür\na".encode())
    items = list(list_voc(config(root), url, Notes()))
    assert [item.reason for item in items] == ["bad_id"] * 6 + ["no_label"] * 2 + [None]
    for item in items:
        assert "/" not in item.image_id
        assert "." not in item.image_id
        assert item.uri.startswith(f"{root}/JPEGImages")
        assert ".." not in item.uri
    assert len(set(ids(items))) == len(items)
    assert "'../../etc/passwd' is not an image id" in (items[0].message or "")


def test_train_aug_is_built_from_sbd(root: str, tmp_path: Path) -> None:
    sbd = str(tmp_path / "sbd_train.txt"), str(tmp_path / "sbd_val.txt")
    storage.write_bytes(sbd[0], b"e\nb\n")
    storage.write_bytes(sbd[1], b"d\na\n")
    assert ids(list_voc(config(root, sbd_lists=sbd), "train_aug", Notes())) == ["a", "c", "d", "e"]
    storage.write_bytes(f"{root}/ImageSets/Segmentation/train_aug.txt", b"e\na\n")
    assert ids(list_voc(config(root, sbd_lists=sbd), "train_aug", Notes())) == ["e", "a"]


def test_train_aug_says_what_it_needs(root: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train_aug.txt; put it there, or set data.sbd_lists to SBD's"):
        list_voc(config(root), "train_aug", Notes())
    missing = str(tmp_path / "nothing.txt")
    with pytest.raises(UserError, match=r"built from the list .*nothing.txt, which does not exist"):
        list_voc(config(root, sbd_lists=(missing, missing)), "train_aug", Notes())


def test_missing_split_names_the_others(root: str) -> None:
    with pytest.raises(UserError, match=r"no list .*trian.txt; lists in .*: train, trainval, val$"):
        list_voc(config(root), "trian", Notes())


@pytest.mark.parametrize("below", ["", "/JPEGImages/x"])
def test_missing_root(root: str, below: str) -> None:
    storage.remove(f"{root}/JPEGImages")
    with pytest.raises(UserError, match=r"data.root: there is no folder .*; source voc needs the folder that"):
        list_voc(config(root + below), None, Notes())


def test_binary_list_is_refused(root: str, tmp_path: Path) -> None:
    url = str(tmp_path / "x.txt")
    storage.write_bytes(url, b"\xff\xd8\xff\xe0")
    with pytest.raises(UserError, match="is not a text file"):
        list_voc(config(root), url, Notes())


def test_annotations_are_read_only_a_little_ahead(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = str(tmp_path / "many.txt")
    storage.write_bytes(url, b"a\n" * 1000)
    read, lock = [], threading.Lock()
    fetch = storage.fetch

    def counted(url: str) -> bytes:
        with lock:
            read.append(url)
        return fetch(url)

    monkeypatch.setattr(voc.storage, "fetch", counted)
    assert len(list(islice(list_voc(config(root), url, Notes()), 10))) == 10
    assert len(read) <= 10 + voc._AHEAD


def test_real_images(voc_animals: Path) -> None:
    data = config(str(voc_animals))
    items = list(list_voc(data, "train", Notes()))
    assert len(items) == 370
    assert items[0].image_id == "2007_000392"
    for item in items[::50]:
        assert item.mask_uri
        assert item.keys
        present = set(decode_mask(storage.fetch(item.mask_uri)).ravel().tolist()) - {0, 255}
        assert set(item.keys) == present
    assert not [item for item in list_voc(data, None, Notes()) if item.reason or not item.mask_uri]
