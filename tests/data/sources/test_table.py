import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pfit_ray import storage
from pfit_ray.config.data import DataConfig
from pfit_ray.data.sources.folder import list_folder
from pfit_ray.data.sources.item import Item, is_plain
from pfit_ray.data.sources.notes import Notes
from pfit_ray.data.sources.table import list_table
from pfit_ray.errors import UserError


def listed(tmp_path: Path, text: str, suffix: str = ".csv", **fields: Any) -> list[Item]:
    path = tmp_path / f"images{suffix}"
    path.write_text(text)
    return list(list_table(DataConfig(source="table", table=str(path), classes=("cat", "red car"), **fields), Notes()))


def test_images_in_the_order_of_the_table(tmp_path: Path) -> None:
    items = listed(tmp_path, "image,classes,mask,size\nb.jpg,cat,m/b.png,12\na.jpg,,,\ns/c.jpg,red car;cat,,x\n")
    assert items == [
        Item("b", f"{tmp_path}/b.jpg", (1,), f"{tmp_path}/m/b.png", size=12),
        Item("a", f"{tmp_path}/a.jpg", ()),
        Item("s_c-ec49458684845f57", f"{tmp_path}/s/c.jpg", (1, 2)),
    ]


def test_paths_and_urls(tmp_path: Path) -> None:
    text = "uri,mask\n/abs/a.jpg,s3://masks/a.png\ns3://other/b.jpg,\nc.jpg,/m/c.png\n../up/d.jpg,\n"
    a, b, c, d = listed(tmp_path, text, root="/data/photos")
    assert (a.uri, a.mask_uri) == ("/abs/a.jpg", "s3://masks/a.png")
    assert b.uri == "s3://other/b.jpg"
    assert (c.image_id, c.uri, c.mask_uri) == ("c", "/data/photos/c.jpg", "/m/c.png")
    assert d.uri == "/data/up/d.jpg"
    items = listed(tmp_path, "uri\nc.jpg\ns3://bucket/photos/e.jpg\n", root="s3://bucket/photos/")
    assert [(item.image_id, item.uri) for item in items] == [
        ("c", "s3://bucket/photos/c.jpg"),
        ("e", "s3://bucket/photos/e.jpg"),
    ]


def test_ids_are_those_of_the_same_folder(tmp_path: Path) -> None:
    names = ["a.jpg", "s/a.jpg", "t/a.jpg", "x y.jpg", "dot.dot.jpg"]
    for name in names:
        storage.write_bytes(str(tmp_path / "photos" / name), b"x")
    folder = list_folder(DataConfig(source="folder", root=str(tmp_path / "photos"), classes=("cat",)), Notes())
    expected = {item.uri: item.image_id for item in folder}
    items = listed(tmp_path, "image\n" + "\n".join(names), root=str(tmp_path / "photos"))
    assert {item.uri: item.image_id for item in items} == expected
    assert len(set(expected.values())) == 5


def test_unsafe_ids_are_made_safe(tmp_path: Path) -> None:
    given = ["good_1", "../../etc/passwd", "a/b", "-x", "é", "x" * 97, "."]
    rows = [{"image": f"{number}.jpg", "image_id": name} for number, name in enumerate(given)]
    items = listed(tmp_path, "\n".join(map(json.dumps, rows)), ".jsonl")
    assert items[0].image_id == "good_1"
    assert items[1].image_id == "______etc_passwd-936d7c04cd83ef94"
    assert all(is_plain(item.image_id) and not item.reason for item in items)
    assert len({item.image_id for item in items}) == len(given)
    (null,) = listed(tmp_path, '{"image": "s.jpg", "image_id": null}', ".jsonl")
    assert null.image_id == "s"


def test_rows_of_one_image_are_joined_unless_their_ids_differ(tmp_path: Path) -> None:
    text = "image,image_id,classes\na.jpg,x,cat\na.jpg,x,red car\na.jpg,y,red car\na.jpg,,cat\n"
    items = listed(tmp_path, text)
    assert [(item.image_id, item.keys) for item in items] == [("x", (1, 2)), ("y", (2,)), ("a", (1,))]


def test_labels(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"image": "0.jpg", "classes": ["cat", "red car"]},
        {"image": "1.jpg", "classes": "red car"},
        {"image": "2.jpg", "classes": []},
        {"image": "3.jpg", "classes": None},
        {"image": "4.jpg"},
        {"image": "5.jpg", "classes": ["dog"]},
    ]
    text = "\n".join(map(json.dumps, rows))
    assert [item.keys for item in listed(tmp_path, text, ".jsonl")] == [(1, 2), (2,), (), None, None, None]
    assert [item.reason for item in listed(tmp_path, text, ".jsonl")] == [None] * 5 + ["unknown_class"]
    assert listed(tmp_path, text, ".jsonl", unknown_classes="ignore")[-1].keys == ()


def test_parquet(tmp_path: Path) -> None:
    table = pa.table({"uri": ["a.jpg", "b.jpg"], "image_id": [7, 8], "classes": [["cat"], None], "size": [5, None]})
    pq.write_table(table, tmp_path / "t.parquet")
    data = DataConfig(source="table", table=str(tmp_path / "t.parquet"), classes=("cat",))
    assert list(list_table(data, Notes())) == [
        Item("7", f"{tmp_path}/a.jpg", (1,), size=5),
        Item("8", f"{tmp_path}/b.jpg"),
    ]


def test_one_row_and_no_row(tmp_path: Path) -> None:
    assert [item.image_id for item in listed(tmp_path, "image\na.jpg")] == ["a"]
    assert listed(tmp_path, "image\n") == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("image_id,classes\na,cat\n", "images.csv has the columns 'image_id', 'classes'; it needs 'image' or 'uri'"),
        ("image,classes\na.jpg,cat\n,cat\n", "images.csv, line 3 names no image in column 'image'"),
        ("image\na.jpg,b\n", "line 2 has more cells than the header"),
    ],
)
def test_mistakes_in_the_table(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=f"^data.table: .*{sentence}"):
        listed(tmp_path, text)


def test_no_such_table(tmp_path: Path) -> None:
    data = DataConfig(source="table", table=str(tmp_path / "gone.csv"), classes=("cat",))
    with pytest.raises(UserError, match=r"data.table: there is no file .*gone.csv"):
        list(list_table(data, Notes()))
