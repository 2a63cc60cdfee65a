import gzip
import tarfile
from pathlib import Path
from typing import Any

import pytest
from support.tars import packed

from pfit_ray import storage
from pfit_ray.config.data import DataConfig
from pfit_ray.data.sources.item import Item, is_plain
from pfit_ray.data.sources.notes import Notes
from pfit_ray.data.sources.tar import list_tar
from pfit_ray.errors import UserError


@pytest.fixture(params=["local", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "tars") if request.param == "local" else f"memory://{tmp_path.name}"


def write(root: str, name: str, members: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> None:
    storage.write_bytes(storage.join(root, name), packed(members, form))


def listed(root: str, **fields: Any) -> list[Item]:
    return list(list_tar(DataConfig(source="tar", root=root, classes=("cat", "dog"), **fields), Notes()))


def content(item: Item) -> bytes:
    assert item.offset is not None
    assert item.length is not None
    return storage.fetch(item.uri, item.offset, item.offset + item.length)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_images_lie_where_the_items_say(root: str, form: int) -> None:
    long = "n" * 90 + "/" + "x" * 60
    write(root, "b.tar", {"0.jpg": b"zero", "0.cls": b"1\n", "1.PNG": b"one" * 999}, form)
    write(root, "a.tar", {f"{long}.webp": b"long", "é.jpeg": b"accent"}, form)
    storage.write_bytes(f"{root}/readme.txt", b"x")
    long_item, accent, zero, one = listed(root)
    assert [content(item) for item in (long_item, accent, zero, one)] == [b"long", b"accent", b"zero", b"one" * 999]
    assert (zero.image_id, zero.uri, zero.keys, zero.size) == ("0", f"{root}/b.tar", (2,), 4)
    assert (one.image_id, one.keys, one.length, one.row) == ("1", None, 2997, None)
    assert zero.version == one.version
    assert zero.version
    assert all(is_plain(item.image_id) for item in (long_item, accent))


@pytest.mark.parametrize("ids", ["key", "path"])
def test_a_tar_of_the_folder_here_gives_the_ids_of_one_of_its_files(root: str, ids: str) -> None:
    members = {"0001.jpg": b"x", "0001.cls": b"1", "sub/a.jpg": b"y", "sub/a.cls": b"0"}
    write(root, "x.tar", members)
    expected = [(item.image_id, item.keys) for item in listed(root, tar_ids=ids)]
    for here in ("./", "././", ".//"):
        write(root, "x.tar", {here + name: data for name, data in members.items()})
        assert [(item.image_id, item.keys) for item in listed(root, tar_ids=ids)] == expected
    assert expected[0] == ("0001", (2,)) or ids == "path"


def test_labels(root: str) -> None:
    labels: dict[str, tuple[str, bytes]] = {
        "a": ("cls", b"0"),
        "b": ("cls", b" dog\n"),
        "c": ("json", b'{"classes": ["dog", "cat"], "x": 1}'),
        "d": ("json", b'{"classes": "cat dog"}'),
        "e": ("json", b'{"classes": []}'),
        "f": ("json", b'{"caption": "nothing"}'),
        "g": ("txt", b"dog"),
        "h": ("cls", b"2"),
        "i": ("cls", b"zebra"),
        "j": ("json", b"{"),
        "k": ("cls", b"\xff"),
        "l": ("json", b"[1]"),
    }
    members = {}
    for key, (kind, data) in labels.items():
        members |= {f"{key}.{kind}": data, f"{key}.jpg": b"x"}
    write(root, "x.tar", members)
    items = listed(root)
    assert [item.keys for item in items] == [(1,), (2,), (1, 2), (1, 2), (), *[None] * 7]
    assert [item.reason for item in items] == [
        *[None] * 7, "unknown_class", "unknown_class", "no_label", "no_label", None
    ]  # fmt: skip
    assert "class number 2, and data.classes has the numbers 0 to 1" in (items[7].message or "")
    assert [item.keys for item in listed(root, tar_first_class=1)][:2] == [None, (2,)]
    assert listed(root, tar_first_class=1)[7].keys == (2,)


def test_a_sample_is_one_image(root: str) -> None:
    write(
        root, "x.tar", {"a.jpg": b"1", "a.seg.png": b"2", "a.png": b"3", "b.cls": b"0", "c.jpg": b"4", ".d.jpg": b"5"}
    )
    assert [(item.image_id, content(item)) for item in listed(root)] == [("a", b"1"), ("c", b"4")]


def test_unsafe_names_are_made_safe(root: str) -> None:
    names = ["../../x.jpg", "/etc/passwd.jpg", "a b.jpg", "sub/x.jpg", "x.jpg"]
    write(root, "x.tar", {name: b"x" for name in names})
    items = listed(root)
    assert items[0].image_id.startswith("______x-")
    assert all(is_plain(item.image_id) and item.uri == f"{root}/x.tar" for item in items)
    assert len({item.image_id for item in items}) == 5
    assert items[-1].image_id == "x"


def test_only_plain_files_count(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name, kind in (
            ("folder.jpg", tarfile.DIRTYPE),
            ("link.jpg", tarfile.SYMTYPE),
            ("pipe.jpg", tarfile.FIFOTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    assert listed(str(tmp_path)) == []


def test_keys_that_tar_files_repeat(root: str) -> None:
    for name in ("a.tar", "s/a.tar"):
        write(root, name, {"0.jpg": b"x", "1.jpg": b"y"})
    assert [item.image_id for item in listed(root)] == ["0", "1", "0", "1"]
    ids = [item.image_id for item in listed(root, tar_ids="path")]
    assert len(set(ids)) == 4
    assert [image_id.partition("-")[0] for image_id in ids] == ["0", "1", "0", "1"]


@pytest.mark.parametrize("name", ["x.tar.gz", "x.TGZ", "x.tar"])
def test_compressed_tar_files_are_refused(root: str, name: str) -> None:
    storage.write_bytes(f"{root}/{name}", gzip.compress(packed({"a.jpg": b"x"})))
    with pytest.raises(UserError) as caught:
        listed(root)
    assert str(caught.value).startswith(f"data.root: {root}/{name} is compressed")


@pytest.mark.parametrize("keep", [0, 100, 700, 2100, 2600])
def test_a_damaged_tar_file_is_a_failed_row(root: str, keep: int) -> None:
    """Truncated: header at 0, "a" at 512, header at 1024, "b" at 1536 to 2136, header at 2560."""
    members = {"a.jpg": b"a" * 512, "b.jpg": b"b" * 600, "c.jpg": b"c"}
    data = packed(members, tarfile.USTAR_FORMAT)[:keep]
    storage.write_bytes(f"{root}/bad.tar", data)
    write(root, "good.tar", {"d.jpg": b"d"})
    *found, bad, good = listed(root)
    assert (bad.image_id, bad.uri, bad.reason) == ("bad", f"{root}/bad.tar", "bad_file")
    assert "images behind the damage are not listed" in (bad.message or "")
    assert [item.image_id for item in found] == ["a", "b"][: {0: 0, 100: 0, 700: 1, 2100: 2, 2600: 2}[keep]]
    assert (good.image_id, good.reason) == ("d", None)


def test_garbage_between_members_is_noticed(root: str) -> None:
    data = bytearray(packed({"a.jpg": b"a", "b.jpg": b"b"}, tarfile.USTAR_FORMAT))
    data[1024 + 148 : 1024 + 156] = b"garbage!"  # the checksum of the second header
    storage.write_bytes(f"{root}/x.tar", bytes(data))
    a, bad = listed(root)
    assert (a.image_id, bad.reason) == ("a", "bad_file")
    assert "no valid header at byte 1024" in (bad.message or "")


def test_a_tar_file_without_end_blocks_is_whole(root: str) -> None:
    storage.write_bytes(f"{root}/x.tar", packed({"a.jpg": b"a"}, tarfile.USTAR_FORMAT)[:1024])
    assert [(item.image_id, item.reason) for item in listed(root)] == [("a", None)]


def test_headers_alone_are_read_of_large_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = f"memory://{tmp_path.name}"
    write(root, "x.tar", {f"{number}.jpg": bytes(1 << 22) for number in range(3)})
    read = []
    fetch = storage.fetch

    def noted(url: str, start: int, end: int) -> bytes:
        read.append(end - start)
        return fetch(url, start, end)

    monkeypatch.setattr("pfit_ray.storage.ranges.storage.fetch", noted)
    assert len(listed(root)) == 3
    assert sum(read) < 6 << 20


def kept(root: str, **fields: Any) -> tuple[list[tuple[bytes, tuple[int, ...] | None]], dict[str, int]]:
    """Content and keys of each image, and the counts of the notes by what they begin with."""
    notes = Notes()
    data = DataConfig(source="tar", root=root, classes=("cat", "dog"), **fields)
    items = [(content(item), item.keys) for item in list_tar(data, notes)]
    return items, {" ".join(note.what.split()[:3]): note.count for note in notes}


@pytest.mark.parametrize(
    ("members", "items", "told"),
    [
        (["a.v1.jpg", "a.v1.cls=1", "a.v2.jpg", "a.v2.cls=0"], [("a.v1.jpg", (2,)), ("a.v2.jpg", (1,))], {}),
        (["x.input.jpg", "x.cls=dog", "y.input.jpg"], [("x.input.jpg", (2,)), ("y.input.jpg", None)], {}),
        (["IMG.1.jpg", "IMG.2.jpg"], [("IMG.1.jpg", None), ("IMG.2.jpg", None)], {}),
        (["a.jpg", "b.jpg", "b.cls=1", "a.cls=0"], [("a.jpg", (1,)), ("b.jpg", (2,))], {}),
        (["b.cls=1", "a.cls=0", "a.jpg", "b.jpg"], [("b.jpg", (2,)), ("a.jpg", (1,))], {}),
        (["./s/a.jpg", "./s/a.json={}"], [("./s/a.jpg", None)], {}),
        (["a.jpg", "a.seg.png", "a.cls=1"], [("a.jpg", (2,))], {"further images of": 1}),
        (["a.cls=1", "b.json={}", "c.jpg"], [("c.jpg", None)], {"samples of tar": 2}),
        (["a.cls=cat;dog", "a.jpg", "b.cls=[0, 1]", "b.JPG"], [("a.jpg", (1, 2)), ("b.JPG", (1, 2))], {}),
        (['a.json={"label": "dog"}', "a.jpg"], [("a.jpg", (2,))], {}),
        (['a.json={"label": 1}', "a.jpg"], [("a.jpg", None)], {"entries 'label' of": 1}),
        (["a.txt=Dog", "a.jpg"], [("a.jpg", None)], {"images with predicted": 1}),
        (["a.pyd", "a.jpg", "README"], [("a.jpg", None)], {"members left out": 1}),
    ],
)
def test_samples_as_tools_write_them(
    root: str, members: list[str], items: list[tuple[str, tuple[int, ...] | None]], told: dict[str, int]
) -> None:
    write(root, "x.tar", {name: (text or name).encode() for name, _, text in (m.partition("=") for m in members)})
    found, notes = kept(root)
    assert found == [(name.encode(), keys) for name, keys in items]
    assert notes == told


def test_a_shard_of_img2dataset(root: str) -> None:
    members = {
        "000000000.jpg": b"1",
        "000000000.txt": b"a cat on a mat",
        "000000000.json": b'{"key": "000000000", "status": "success", "caption": "a cat on a mat", "sha256": "0"}',
        "000000001.txt": b"gone",
        "000000001.json": b'{"key": "000000001", "status": "failed_to_download", "error_message": "404"}',
    }
    write(root, "00000.tar", members)
    storage.write_bytes(f"{root}/00000.parquet", b"x")
    notes = Notes()
    (item,) = list_tar(DataConfig(source="tar", root=root, classes=("cat", "dog")), notes)
    assert (item.image_id, item.keys) == ("000000000", None)
    assert [(note.count, note.example, bool(note.remedy)) for note in notes] == [
        (1, "00000.parquet", False),
        (1, "00000.tar/000000001", True),
    ]


def test_tars_appended_to_each_other(root: str) -> None:
    one, two = packed({"a.jpg": b"1", "a.cls": b"0"}), packed({"b.jpg": b"2", "b.cls": b"1"})
    storage.write_bytes(f"{root}/x.tar", one + two + bytes(1 << 21) + two)
    found, notes = kept(root)
    assert found == [(b"1", (1,)), (b"2", (2,)), (b"2", (2,))]
    assert notes == {"tar files appended": 2}
    storage.write_bytes(f"{root}/x.tar", one + b"\1" * 4096)
    good, bad = listed(root)
    assert (good.image_id, bad.reason) == ("a", "bad_file")
