import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pfit_ray.constants import ClassList
from pfit_ray.data.sources.label_table import LabelTable
from pfit_ray.data.sources.labels import split_names
from pfit_ray.data.sources.notes import Notes
from pfit_ray.errors import RowError, UserError

CLASSES = ("cat", "dog", "red car", "bus, yellow")


def table(tmp_path: Path, text: str | bytes, suffix: str = ".csv") -> LabelTable:
    path = tmp_path / f"labels{suffix}"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return LabelTable(str(path), ClassList(CLASSES), Notes())


def names(labels: LabelTable, path: str, image_id: str | None = None, uri: str = "/root/x") -> list[str]:
    return labels.names(image_id or path.rpartition(".")[0], path, uri)


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("", []),
        (" cat ", ["cat"]),
        ("cat dog", ["cat", "dog"]),
        ("cat,dog", ["cat", "dog"]),
        ("cat; dog;", ["cat", "dog"]),
        ("cat|red car", ["cat", "red car"]),
        ("red car", ["red car"]),
        ("red car cat", ["red car", "cat"]),
        ("cat red car dog", ["cat", "red car", "dog"]),
        ("bus, yellow", ["bus, yellow"]),
        ("cat,Bus,  Yellow", ["cat", "Bus, Yellow"]),
        ("bus, yellow; dog, cat", ["bus, yellow", "dog", "cat"]),
        ("['cat', 'dog']", ["cat", "dog"]),
        ("['cat' 'dog']", ["cat", "dog"]),
        ('["red car", "bus, yellow"]', ["red car", "bus, yellow"]),
        ("[]", []),
        ("set()", []),
        ("('cat',)", ["cat"]),
        ("[cat, red car]", ["cat", "red car"]),
        ("['it\\'s']", ["it's"]),
        ('"cat";"dog"', ["cat", "dog"]),
        ("red wagon", ["red", "wagon"]),
        ("red wagon; cat", ["red wagon", "cat"]),
    ],
)
def test_split_names(text: str, split: list[str]) -> None:
    assert split_names(text, set(CLASSES)) == split


@pytest.mark.parametrize("column", ["image", "image_id"])
def test_csv(tmp_path: Path, column: str) -> None:
    text = f'\ufeffnote,{column},classes\n1,a,cat dog\r\n2,b.jpg,"cat,dog"\n3,c,\n4,./sub/d.jpg,red car\n'
    labels = table(tmp_path, text)
    assert names(labels, "a.jpg") == ["cat", "dog"]
    assert names(labels, "b.jpg") == ["cat", "dog"]
    assert names(labels, "c.png") == []
    assert names(labels, "sub/d.jpg") == ["red car"]


def test_jsonl(tmp_path: Path) -> None:
    rows = [
        {"image": "a.jpg", "classes": ["cat", "red car"]},
        {"image": "b.jpg", "classes": "cat;dog"},
        {"image": "c.jpg", "classes": []},
        {"image": "d.jpg", "classes": None},
        {"image": "e.jpg", "classes": [7]},
    ]
    labels = table(tmp_path, "\n\n".join(map(json.dumps, rows)), ".jsonl")
    assert names(labels, "a.jpg") == ["cat", "red car"]
    assert names(labels, "b.jpg") == ["cat", "dog"]
    assert names(labels, "c.jpg") == []
    assert names(labels, "e.jpg") == ["7"]
    with pytest.raises(RowError, match=r"row 'd.jpg' of .* has no value in column 'classes'") as caught:
        names(labels, "d.jpg")
    assert caught.value.reason == "no_label"


@pytest.mark.parametrize(
    "classes",
    [
        pa.array([["cat"], ["dog", "cat"]]),
        pa.array(["cat", "dog cat"]),
        pa.array(["cat", "dog cat"]).dictionary_encode(),
        pa.array(["cat", "dog cat"], pa.large_string()),
    ],
)
def test_parquet(tmp_path: Path, classes: pa.Array) -> None:
    pq.write_table(pa.table({"image_id": ["a", "b"], "classes": classes, "width": [1, 2]}), tmp_path / "x.parquet")
    labels = LabelTable(str(tmp_path / "x.parquet"), ClassList(CLASSES), Notes())
    assert names(labels, "a.jpg") == ["cat"]
    assert names(labels, "b.jpg") == ["dog", "cat"]


def test_an_image_is_named_in_many_ways(tmp_path: Path) -> None:
    uri = "s3://bucket/deep/a.jpg"
    for key in ("deep_a-01234567", "deep/a.jpg", "./deep/a.jpg", "deep/a", "a.jpg", "a", uri):
        labels = table(tmp_path, f"image,classes\n{key},cat\n")
        assert names(labels, "deep/a.jpg", "deep_a-01234567", uri) == ["cat"]


def test_file_name_that_fits_two_images(tmp_path: Path) -> None:
    labels = table(tmp_path, "image,classes\na.jpg,cat\nv/a.jpg,dog\n")
    assert names(labels, "u/a.jpg") == ["cat"]
    assert names(labels, "u/a.jpg") == ["cat"]
    assert names(labels, "v/a.jpg") == ["dog"]
    with pytest.raises(RowError, match=r"fits 'u/a.jpg' and 'w/a.jpg'; name images by relative path") as caught:
        names(labels, "w/a.jpg")
    assert caught.value.reason == "no_label"


def test_rows_of_one_image_are_joined(tmp_path: Path) -> None:
    labels = table(tmp_path, "image,classes\na.jpg,cat\nb.jpg,dog\na.jpg,dog\n")
    assert names(labels, "a.jpg") == ["cat", "dog"]


def test_image_without_a_row(tmp_path: Path) -> None:
    labels = table(tmp_path, "image,classes\na.jpg,cat\n")
    with pytest.raises(RowError, match=r"has no row for image 'b.jpg'") as caught:
        names(labels, "b.jpg")
    assert caught.value.reason == "no_label"


def test_unused_rows_are_counted(tmp_path: Path) -> None:
    labels = table(tmp_path, "image,classes\na.jpg,cat\nb.jpg,cat\nc.jpg,cat\n")
    names(labels, "b.jpg")
    labels.note_unused()
    assert [(note.count, note.example) for note in labels.notes] == [(2, "a.jpg")]


@pytest.mark.parametrize(
    ("text", "suffix", "words"),
    [
        (
            "thing,other\na,cat\n",
            ".csv",
            r"has the columns 'thing', 'other'; it needs 'image' or 'image_id'",
        ),
        ("", ".csv", "has the columns none"),
        ("image,classes\na,cat,dog\n", ".csv", "line 2 has more cells than the header; separate classes by ';'"),
        ("image,classes\n,cat\n", ".csv", "line 2 names no image"),
        (b"image,classes\n\xff,cat\n", ".csv", "is not UTF-8 text"),
        ('image,classes\n"a,cat\n', ".csv", "is not a valid .csv file"),
        ('{"image": "a", "classes": []}\n{"ima', ".jsonl", "line 2 is not JSON"),
        ("[1]", ".jsonl", "line 1 is not a JSON object"),
        ('{"image": "a"}', ".jsonl", "has the columns 'image'; it needs"),
        ('{"image": "a", "classes": []}\n{"classes": []}', ".jsonl", "line 2 names no image"),
        ("PAR1 no", ".parquet", "is not a valid .parquet file"),
        ("", ".xlsx", "must end in .csv, .tsv, .jsonl or .parquet"),
    ],
)
def test_unusable_tables(tmp_path: Path, text: str | bytes, suffix: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        table(tmp_path, text, suffix)


def test_missing_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.labels: there is no file .*gone.csv"):
        LabelTable(str(tmp_path / "gone.csv"), ClassList(CLASSES), Notes())


def test_csv_row_that_is_too_short(tmp_path: Path) -> None:
    labels = table(tmp_path, "image,classes\na.jpg\n")
    with pytest.raises(RowError, match="no value in column 'classes'"):
        names(labels, "a.jpg")
