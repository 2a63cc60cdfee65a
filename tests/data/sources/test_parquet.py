from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pfit_ray import storage
from pfit_ray.config.data import DataConfig
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
        f"data.image_column: {root}/a.parquet has the columns 'picture', 'image'; none of them is one of image, bytes, "
        "jpg with bytes, or with a struct that has bytes"
    )
    with pytest.raises(UserError, match="none of them is nothing with bytes"):
        listed(root, image_column="nothing")
    with pytest.raises(UserError, match=r"data.id_column: .* has the columns 'picture', 'image', not 'key'"):
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
