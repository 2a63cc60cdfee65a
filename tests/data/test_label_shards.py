import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from pfit_ray import storage
from pfit_ray.data.images import decode_mask, encode_label
from pfit_ray.data.label_shards import iterate_shard, pack_shard, read_member
from pfit_ray.errors import RowError, UserError

ITEMS = [("b", b"x" * 700), ("a", b""), ("2007_000032", b"y" * 512), ("ä" * 60, b"z")]


def test_places_point_at_the_bytes() -> None:
    tar, places = pack_shard(ITEMS)
    assert list(places) == [image_id for image_id, _ in ITEMS]
    for image_id, data in ITEMS:
        offset, size = places[image_id]
        assert tar[offset : offset + size] == data


def test_members_are_plain_and_the_same_each_time() -> None:
    tar, _ = pack_shard(ITEMS)
    assert pack_shard(iter(ITEMS))[0] == tar
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        members = archive.getmembers()
    assert [member.name for member in members] == [f"{image_id}.png" for image_id, _ in ITEMS]
    for member in members:
        assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
        assert (member.mode, member.isfile()) == (0o644, True)


@pytest.mark.parametrize("place", ["local", "memory"])
def test_read_back(tmp_path: Path, place: str) -> None:
    url = str(tmp_path / "s.tar") if place == "local" else f"memory://{tmp_path.name}/s.tar"
    label = np.array([[0, 8], [255, 8]], dtype=np.uint8)
    tar, places = pack_shard([("one", encode_label(label)), ("two", b"2")])
    storage.write_bytes(url, tar)
    np.testing.assert_array_equal(decode_mask(read_member(url, "one", *places["one"])), label)
    assert read_member(url, "two", *places["two"]) == b"2"
    assert [image_id for image_id, _ in iterate_shard(url)] == ["one", "two"]
    assert dict(iterate_shard(url))["two"] == b"2"


def test_empty_shard(tmp_path: Path) -> None:
    tar, places = pack_shard([])
    storage.write_bytes(str(tmp_path / "s.tar"), tar)
    assert places == {}
    assert list(iterate_shard(str(tmp_path / "s.tar"))) == []


def test_an_id_stands_once() -> None:
    with pytest.raises(ValueError, match="image id 'a'"):
        pack_shard([("a", b"1"), ("a", b"2")])


def test_damaged_shard(tmp_path: Path) -> None:
    url = str(tmp_path / "s.tar")
    tar, places = pack_shard([("a", b"1" * 5000), ("b", b"2" * 5000)])
    storage.write_bytes(url, tar[:7000])
    with pytest.raises(RowError, match="the shard is damaged") as caught:
        read_member(url, "b", *places["b"])
    assert caught.value.reason == "io_error"
    with pytest.raises(UserError, match="remove it and run again"):
        list(iterate_shard(url))
    with pytest.raises(RowError) as caught:
        read_member(str(tmp_path / "absent.tar"), "a", 512, 1)
    assert caught.value.reason == "missing"


def test_another_image_s_label_is_refused(tmp_path: Path) -> None:
    url, long = str(tmp_path / "s.tar"), "x" * 96
    tar, places = pack_shard([("a", b"1" * 9), ("b", b"2" * 9), (long, b"3")])
    storage.write_bytes(url, tar)
    assert read_member(url, long, *places[long]) == b"3"
    with pytest.raises(RowError, match="does not hold 'b'") as caught:
        read_member(url, "b", *places["a"])
    assert caught.value.reason == "io_error"
