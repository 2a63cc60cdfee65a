from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Image, List, Value

from pfit_ray import storage
from pfit_ray.config.data import DataConfig
from pfit_ray.data.image_bytes import fetch_address, read_cells
from pfit_ray.data.images import decode_mask, encode_label
from pfit_ray.data.sources.item import Item, is_plain
from pfit_ray.data.sources.notes import Notes
from pfit_ray.data.sources.parquet import list_parquet
from pfit_ray.errors import UserError


@pytest.fixture(params=["local", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "p") if request.param == "local" else f"memory://{tmp_path.name}"


def write(root: str, name: str, **columns: list[Any]) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, row_group_size=2)
    storage.write_bytes(storage.join(root, name), sink.getvalue().to_pybytes())


def listed(root: str, **fields: Any) -> list[Item]:
    return list(list_parquet(DataConfig(source="parquet", root=root, classes=("cat", "dog"), **fields), Notes()))


def test_rows_of_all_files(root: str) -> None:
    write(root, "b.parquet", image=[b"0", b"1", b"2"])
    write(root, "a.parquet", image=[{"bytes": b"3", "path": "x"}])
    items = listed(root)
    assert [(item.image_id, item.uri, item.row, item.column) for item in items] == [
        ("a-00000000", f"{root}/a.parquet", 0, "image.bytes"),
        *((f"b-0000000{row}", f"{root}/b.parquet", row, "image") for row in range(3)),
    ]
    assert {(item.keys, item.size, item.offset, item.reason) for item in items} == {(None, None, None, None)}
    assert all(item.version for item in items)


def test_equal_stems_in_folders(root: str) -> None:
    for name in ("a.parquet", "s/a.parquet", "t/a.parquet", "x y.parquet"):
        write(root, name, jpg=[b"0", b"1"])
    ids = [item.image_id for item in listed(root)]
    assert ids[:2] == ["a-00000000", "a-00000001"]
    assert len(set(ids)) == 8
    assert all(is_plain(image_id) for image_id in ids)


def test_ids_of_a_column(root: str) -> None:
    write(root, "a.parquet", image=[b"0", b"1", b"2", b"3"], image_id=["x", "../../y", None, ""], key=[1, 2, 3, 4])
    x, y, null, empty = (item.image_id for item in listed(root))
    assert x == "x"
    assert y.startswith("______y-")
    assert (null, empty) == ("a-00000002", "a-00000003")
    assert [item.image_id for item in listed(root, id_column="key")] == ["1", "2", "3", "4"]


def test_labels(root: str) -> None:
    write(root, "a.parquet", image=[b"0"] * 4, classes=[["dog", "cat"], [], None, ["zebra"]])
    items = listed(root)
    assert [item.keys for item in items] == [(1, 2), (), None, None]
    assert [item.reason for item in items] == [None, None, None, "unknown_class"]


def test_other_image_column(root: str) -> None:
    write(root, "a.parquet", image=[b"0"], thumbnail=[b"1"])
    assert [item.column for item in listed(root, image_column="thumbnail")] == ["thumbnail"]


def test_missing_columns(root: str) -> None:
    write(root, "a.parquet", picture=[b"0"], image=["a.jpg"])
    with pytest.raises(UserError) as caught:
        listed(root)
    assert str(caught.value) == (
        f"data.image_column: {root}/a.parquet has the columns 'picture', 'image'; none of them is one of image, "
        "bytes, jpg, jpeg, png, webp, img with bytes, or with a struct that has bytes; string is neither, and a table "
        "of paths is for source table"
    )
    with pytest.raises(UserError, match="none of them is nothing with bytes"):
        listed(root, image_column="nothing")
    with pytest.raises(
        UserError, match=r"data.id_column: .* has the columns 'picture', 'image'; none of them is 'key'"
    ):
        listed(root, image_column="picture", id_column="key")


def test_no_rows(root: str) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"image": pa.array([], pa.binary())}), sink)
    storage.write_bytes(f"{root}/a.parquet", sink.getvalue().to_pybytes())
    assert listed(root) == []


def test_a_damaged_file_is_a_failed_row(root: str) -> None:
    write(root, "b.parquet", image=[b"0"])
    storage.write_bytes(f"{root}/a.parquet", b"PAR1 and nothing else PAR1")
    bad, good = listed(root)
    assert (bad.image_id, bad.uri, bad.reason) == ("a", f"{root}/a.parquet", "bad_file")
    assert "not all images of this file are listed" in (bad.message or "")
    assert good.image_id == "b-00000000"


CAT_DOG = ClassLabel(names=["cat", "dog"])


def write_hf(root: Path, features: dict[str, Any], **columns: list[Any]) -> str:
    """A Parquet file as Hugging Face's datasets writes it."""
    root.mkdir(exist_ok=True)
    Dataset.from_dict(columns, features=Features(features)).to_parquet(str(root / "a.parquet"))
    return str(root)


@pytest.mark.parametrize(
    ("features", "columns", "keys"),
    [
        ({"label": CAT_DOG}, {"label": [1, 0, -1, None]}, [(2,), (1,), None, None]),
        ({"label": ClassLabel(names=["dog", "cat"])}, {"label": [1, 0]}, [(1,), (2,)]),
        ({"labels": List(CAT_DOG)}, {"labels": [[0, 1], [], None, [-1]]}, [(1, 2), (), None, None]),
        ({"classes": CAT_DOG}, {"classes": [1]}, [(2,)]),
        ({"fine": CAT_DOG}, {"fine": [1]}, [(2,)]),
        ({"objects": {"category": List(CAT_DOG)}}, {"objects": [{"category": [1, 1]}, {"category": []}]}, [(2,), ()]),
        ({"objects": List({"is": CAT_DOG})}, {"objects": [[{"is": 1}, {"is": 0}], []]}, [(1, 2), ()]),
        ({"label": Value("string")}, {"label": ["dog", None]}, [(2,), None]),
        ({"labels": List(Value("string"))}, {"labels": [["dog", "cat"]]}, [(1, 2)]),
    ],
    ids=["number", "own-order", "numbers", "classes", "only-one", "objects", "list-of-objects", "text", "texts"],
)
def test_labels_as_datasets_writes_them(
    tmp_path: Path, features: dict[str, Any], columns: dict[str, list[Any]], keys: list[tuple[int, ...] | None]
) -> None:
    images = [{"bytes": b"x", "path": None}] * len(keys)
    root = write_hf(tmp_path / "p", {"image": Image(), **features}, image=images, **columns)
    items = listed(root)
    assert [item.keys for item in items] == keys
    assert {item.reason for item in items} == {None}


def test_a_number_without_a_name_is_no_class(tmp_path: Path) -> None:
    images = [{"bytes": b"x", "path": None}] * 2
    features = {"image": Image(), "label": ClassLabel(names=["cat", "bird"])}
    root = write_hf(tmp_path / "p", features, image=images, label=[0, 1])
    assert [(item.keys, item.reason) for item in listed(root)] == [((1,), None), (None, "unknown_class")]
    assert [item.keys for item in listed(root, unknown_classes="ignore")] == [(1,), ()]


def test_two_columns_of_labels_are_told_of_and_one_can_be_chosen(tmp_path: Path) -> None:
    features = {"img": Image(), "coarse": ClassLabel(names=["pet"]), "fine": CAT_DOG}
    root = write_hf(tmp_path / "p", features, img=[{"bytes": b"x", "path": None}], coarse=[0], fine=[1])
    notes = Notes()
    (item,) = list_parquet(DataConfig(source="parquet", root=root, classes=("cat", "dog")), notes)
    assert (item.column, item.keys) == ("img.bytes", None)
    assert [(note.what.split("'")[1], note.count, note.remedy[:28]) for note in notes] == [
        ("coarse", 1, "set data.label_column to coa"),
        ("fine", 1, "set data.label_column to fin"),
    ]
    assert [item.keys for item in listed(root, label_column="fine")] == [(2,)]
    with pytest.raises(UserError, match=r"data\.label_column: .* 'size'"):
        listed(root, label_column="size")


def test_labels_that_are_read_by_no_name_are_told_of(root: str) -> None:
    write(root, "a.parquet", image=[b"0"] * 3, label=[3, 1, 2], category=["dog", "cat", "dog"], preview=[b"1"] * 3)
    notes = Notes()
    data = DataConfig(source="parquet", root=root, classes=("cat", "dog"))
    assert [item.keys for item in list_parquet(data, notes)] == [None] * 3
    assert [(note.what.split("'")[1], note.count) for note in notes] == [("label", 3), ("category", 3), ("preview", 3)]
    assert [item.keys for item in listed(root, label_column="category")] == [(2,), (1,), (2,)]
    assert [item.keys for item in listed(root, label_column="")] == [None] * 3
    with pytest.raises(UserError, match="numbers in column 'label'"):
        listed(root, label_column="label")


@pytest.mark.parametrize("name", ["mask", "label"])
def test_a_column_of_masks_is_ground_truth(tmp_path: Path, name: str) -> None:
    masks = [np.array([[0, 1], [2, 255]], np.uint8), None, np.array([[1, 1]], np.uint8)]
    cells = [None if mask is None else {"bytes": encode_label(mask), "path": None} for mask in masks]
    images = [{"bytes": b"x", "path": None}] * 3
    root = write_hf(tmp_path / "p", {"image": Image(), name: Image()}, image=images, **{name: cells})
    items = listed(root)
    assert [item.mask_uri is not None for item in items] == [True, False, True]
    assert decode_mask(fetch_address(items[0].mask_uri or "")).tolist() == [[0, 1], [2, 255]]
    assert decode_mask(fetch_address(items[2].mask_uri or "")).tolist() == [[1, 1]]
    assert [item.mask_uri for item in listed(root, mask_column="")] == [None] * 3


@pytest.mark.parametrize("kind", [pa.binary_view(), pa.large_binary(), pa.list_(pa.uint8())], ids=str)
def test_types_of_other_writers(tmp_path: Path, kind: pa.DataType) -> None:
    cells = [list(b"one"), list(b"two")] if pa.types.is_list(kind) else [b"one", b"two"]
    ids = pa.array(["a", "b"], pa.string_view())
    classes = pa.array(["dog", "cat"]).dictionary_encode()
    table = pa.table({"image": pa.array(cells, kind), "image_id": ids, "classes": classes})
    pq.write_table(table, tmp_path / "a.parquet")
    items = listed(str(tmp_path))
    assert [(item.image_id, item.keys) for item in items] == [("a", (2,)), ("b", (1,))]
    assert [data for _, data in read_cells(items[0].uri, items[0].column or "", [0, 1])] == [b"one", b"two"]
