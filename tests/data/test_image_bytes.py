import io
import tarfile
import threading
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.tars import packed

from pfit_ray import storage
from pfit_ray.config.data import DataConfig, ImageSetConfig
from pfit_ray.constants import FAILED, OK, Row
from pfit_ray.data import image_bytes
from pfit_ray.data.image_bytes import (
    cell_address,
    fetch_address,
    fetch_image,
    fetch_images,
    image_column,
    read_cells,
    read_image_rows,
)
from pfit_ray.data.sources.item import Item
from pfit_ray.data.sources.listing import list_images
from pfit_ray.errors import RowError, UserError
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.rundir.manifest import read_manifest_shard, write_manifest

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.mark.parametrize(
    ("fields", "wanted", "column"),
    [
        ({"image": pa.binary()}, None, "image"),
        ({"jpg": pa.binary(), "bytes": pa.large_binary()}, None, "bytes"),
        ({"image": STRUCT}, None, "image.bytes"),
        ({"image": pa.string(), "jpg": pa.binary()}, None, "jpg"),
        ({"picture": pa.binary(), "image": pa.binary()}, "picture", "picture"),
        ({"picture": pa.binary()}, None, None),
        ({"image": pa.struct([("path", pa.string())])}, None, None),
        ({"image": pa.binary_view()}, None, "image"),
        ({"image": pa.dictionary(pa.int32(), pa.binary())}, None, "image"),
        ({"image": pa.dictionary(pa.int32(), pa.string())}, None, None),
        ({"image": pa.list_(pa.uint8())}, None, "image"),
        ({"image": pa.list_(pa.float32())}, None, None),
        ({"image": pa.struct([("bytes", pa.large_binary()), ("path", pa.string())])}, None, "image.bytes"),
        ({"image": pa.binary()}, "picture", None),
    ],
)
def test_image_column(fields: dict[str, pa.DataType], wanted: str | None, column: str | None) -> None:
    assert image_column(pa.schema(list(fields.items())), wanted) == column


def column(kind: pa.DataType, cells: list[Any]) -> pa.Array:
    if pa.types.is_dictionary(kind):
        return pa.array(cells, kind.value_type).dictionary_encode()
    return pa.array([cell if cell is None else list(cell) for cell in cells] if pa.types.is_list(kind) else cells, kind)


def parquet(kind: pa.DataType, wrap: bool, rows: int = 100, group: int = 30) -> io.BytesIO:
    """Row n holds the bytes "n", row 42 a null."""
    values = [None if number == 42 else str(number).encode() for number in range(rows)]
    cells = [{"bytes": value, "path": None} for value in values] if wrap else values
    buffer = io.BytesIO()
    table = pa.table({"image": column(kind, cells), "other": [b"y" * 100] * rows})
    nested_views = wrap and pa.types.is_binary_view(kind[0].type)  # pyarrow cannot cut these into row groups
    pq.write_table(table, buffer, row_group_size=None if nested_views else group)
    return io.BytesIO(buffer.getvalue())


@pytest.mark.parametrize(
    ("kind", "wrap"),
    [
        (pa.binary(), False),
        (pa.large_binary(), False),
        (pa.binary_view(), False),
        (pa.list_(pa.uint8()), False),
        (pa.dictionary(pa.int32(), pa.binary()), False),
        (STRUCT, True),
        (pa.struct([("bytes", pa.binary_view()), ("path", pa.string_view())]), True),
    ],
    ids=["bytes", "large", "view", "list", "dictionary", "struct", "struct-view"],
)
@pytest.mark.parametrize("rows", [[0], [99], [29, 30, 31], [3, 41, 42, 43, 95], list(range(100))])
def test_rows_by_number(kind: pa.DataType, wrap: bool, rows: list[int]) -> None:
    found = list(read_image_rows(parquet(kind, wrap), "image.bytes" if wrap else "image", rows))
    assert found == [(row, None if row == 42 else str(row).encode(), None) for row in rows]


def test_rows_that_the_file_does_not_have_are_left_out() -> None:
    assert list(read_image_rows(parquet(pa.binary(), False), "image", [98, 100, 1000])) == [(98, b"98", None)]


def test_damaged_file_and_missing_column() -> None:
    with pytest.raises(pa.ArrowInvalid):
        list(read_image_rows(io.BytesIO(b"PAR1 nothing"), "image", [0]))
    with pytest.raises(pa.ArrowInvalid, match="no column picture"):
        list(read_image_rows(parquet(pa.binary(), False), "picture", [0]))


def test_only_the_row_groups_of_the_rows_are_read() -> None:
    class Counted(io.BytesIO):
        count = 0

        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            self.count += len(data)
            return data

    rows, size = 40, 100_000
    buffer = io.BytesIO()
    table = pa.table({"image": [bytes([row]) * size for row in range(rows)], "other": [b"o" * size] * rows})
    pq.write_table(table, buffer, row_group_size=10, compression="none", use_dictionary=False)
    file = Counted(buffer.getvalue())
    assert [len(data or b"") for _, data, _ in read_image_rows(file, "image", [12, 13])] == [size, size]
    assert file.count < 1.5 * 10 * size


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(str(tmp_path / "run"))


@pytest.mark.parametrize("place", ["local", "memory"])
def test_fetch_from_tar_files_and_parquet(tmp_path: Path, place: str) -> None:
    root = str(tmp_path) if place == "local" else f"memory://{tmp_path.name}"
    storage.write_bytes(f"{root}/x.tar", b"....jpeg....")
    sink = pa.BufferOutputStream()
    cells = [{"bytes": data, "path": None} for data in (b"r0", b"r1", None, b"r3", b"")]
    pq.write_table(pa.table({"image": cells}), sink, row_group_size=2)
    storage.write_bytes(f"{root}/x.parquet", sink.getvalue().to_pybytes())
    storage.write_bytes(f"{root}/bad.parquet", b"PAR1 no PAR1")
    tar = {"uri": f"{root}/x.tar", "row": None, "status": OK}
    table = {"uri": f"{root}/x.parquet", "column": "image.bytes", "offset": None, "status": OK}
    rows: list[Row] = [
        {**table, "row": 3},
        {**tar, "offset": 4, "length": 4},
        {**table, "row": 0},
        {**tar, "offset": 8, "length": 5},
        {**tar, "offset": 8, "length": 0},
        {**table, "row": 2},
        {**table, "row": 4},
        {**table, "row": 1},
        {**table, "row": 5},
        {**table, "row": 0, "uri": f"{root}/bad.parquet"},
        {**table, "row": 0, "uri": f"{root}/gone.parquet"},
        {**table, "row": 0, "uri": f"{root}/gone.parquet", "status": FAILED, "reason": "bad_id"},
    ]
    singly = [dict(row) for row in rows]
    fetch_images(rows)
    bad = ["bad_file", "empty_file", "empty_file", "empty_file"]
    reasons = [None, None, None, *bad, None, "missing", "bad_file", "missing", "bad_id"]
    assert [row.get("encoded") for row in rows] == [b"r3", b"jpeg", b"r0", *[None] * 4, b"r1", *[None] * 4]
    assert [row.get("reason") for row in rows] == reasons
    assert [row.get("stage") for row in rows] == [reason and "fetch" for reason in reasons[:-1]] + [None]
    for row, reason in zip(singly[:-1], reasons, strict=False):
        if reason is None:
            assert fetch_image(row) == rows[singly.index(row)]["encoded"]
        else:
            with pytest.raises(RowError) as caught:
                fetch_image(row)
            assert caught.value.reason == reason


def test_an_image_that_has_changed_since_is_read_as_it_is(run: RunDirectory, tmp_path: Path) -> None:
    uri = tmp_path / "a.jpg"
    uri.write_bytes(b"new and longer")
    write_manifest(run, "train", iter([Item("a", str(uri), size=3, version="old")]), shard_size=1)
    rows = read_manifest_shard(run, "train", 0)
    fetch_images(rows)
    assert (rows[0]["status"], rows[0]["encoded"]) == (OK, b"new and longer")


def test_a_parquet_file_is_opened_once_for_a_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"jpg": [b"%d" % number for number in range(50)]}), path, row_group_size=10)
    opened = []
    open_for_rows = image_bytes.open_for_rows
    monkeypatch.setattr(image_bytes, "open_for_rows", lambda url: opened.append(url) or open_for_rows(url))
    rows: list[Row] = [{"uri": str(path), "column": "jpg", "row": row, "status": OK} for row in (30, 2, 9, 41)]
    fetch_images(rows)
    assert [row["encoded"] for row in rows] == [b"30", b"2", b"9", b"41"]
    assert opened == [str(path)]


def test_images_are_read_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    all_there = threading.Barrier(4, timeout=20)

    def fetch(url: str) -> bytes:
        all_there.wait()
        return url.encode()

    monkeypatch.setattr(storage, "fetch", fetch)
    rows: list[Row] = [{"uri": f"s3://bucket/{number}", "status": OK} for number in range(4)]
    fetch_images(rows, threads=4)
    assert [row["encoded"] for row in rows] == [b"s3://bucket/0", b"s3://bucket/1", b"s3://bucket/2", b"s3://bucket/3"]


def test_a_mistake_that_no_row_is_to_blame_for_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "fetch", mock.Mock(side_effect=UserError("no credentials")))
    with pytest.raises(UserError, match="no credentials"):
        fetch_images([{"uri": "s3://bucket/a", "status": OK}, {"uri": "s3://bucket/b", "status": OK}], threads=2)


@pytest.mark.parametrize("threads", [1, 3])
def test_fetch_images(tmp_path: Path, threads: int) -> None:
    (tmp_path / "a").write_bytes(b"jpeg")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    rows = [{"image_id": name, "uri": str(tmp_path / name), "status": OK} for name in ("a", "empty", "gone", "folder")]
    rows.append({"image_id": "bad", "uri": str(tmp_path / "a"), "status": FAILED, "reason": "bad_id"})
    fetch_images(rows, threads)
    assert rows[0]["encoded"] == b"jpeg"
    assert [row.get("stage") for row in rows] == [None, "fetch", "fetch", "fetch", None]
    assert [row.get("reason") for row in rows] == [None, "empty_file", "missing", "missing", "bad_id"]
    assert rows[2]["message"] == f"{tmp_path}/gone does not exist"
    assert [row["status"] for row in rows] == [OK, FAILED, FAILED, FAILED, FAILED]
    assert all("encoded" not in row for row in rows[1:])


def test_a_path_instead_of_bytes_begins_at_the_files_folder(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("a.jpg", "images/b.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    paths = [str(tmp_path / "a.jpg"), "images/b.jpg", "gone.jpg", None, "unused.jpg"]
    cells = [{"bytes": b"own" if path == "unused.jpg" else None, "path": path} for path in paths]
    uri = str(tmp_path / "x.parquet")
    pq.write_table(pa.table({"image": pa.array(cells, STRUCT)}), uri)
    found = [data if isinstance(data, bytes) else data.reason for _, data in read_cells(uri, "image.bytes", range(5))]
    assert found == [b"a.jpg", b"images/b.jpg", "missing", "empty_file", b"own"]
    assert fetch_address(cell_address(uri, "image.bytes", 1)) == b"images/b.jpg"
    assert fetch_address(f"{tmp_path}/a.jpg") == b"a.jpg"
    with pytest.raises(RowError, match=r"row 2 of .*gone"):
        fetch_address(cell_address(uri, "image.bytes", 2))


def listed(source: str, run: RunDirectory, root: str) -> list[Row]:
    items = list_images(DataConfig(source=source, root=root, classes=("cat",)), ImageSetConfig())
    write_manifest(run, "train", items, shard_size=8)
    rows = read_manifest_shard(run, "train", 0)
    assert [row["status"] for row in rows] == [OK] * len(rows)
    return rows


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_member_that_has_changed_places_is_not_taken_for_another(
    run: RunDirectory, tmp_path: Path, form: int
) -> None:
    long = "n" * 90 + "/" + "x" * 60 + "%d.jpg"
    members = {"a.jpg": b"a1", "b.jpg": b"b1", "é.jpg": b"e1", long % 1: b"l1", long % 2: b"l2"}
    (tmp_path / "x.tar").write_bytes(packed(members, form))
    rows = listed("tar", run, str(tmp_path))
    again = [dict(row) for row in rows]
    fetch_images(rows)
    assert [row["encoded"] for row in rows] == list(members.values())
    swapped = {**members, "a.jpg": b"B1", "b.jpg": b"A1"}  # other bytes under the same names are read as they are
    (tmp_path / "x.tar").write_bytes(packed(swapped, form))
    fetch_images(now := [dict(row) for row in again])
    assert [row["encoded"] for row in now] == list(swapped.values())
    (tmp_path / "x.tar").write_bytes(packed({name: members[name] for name in ("b.jpg", "a.jpg", *members)}, form))
    fetch_images(again)
    assert [row.get("reason") for row in again[:2]] == ["bad_file", "bad_file"]
    assert all("'b.jpg'" in row["message"] and "'a.jpg'" in row["message"] for row in again[:2])
    assert [row["encoded"] for row in again[2:]] == list(members.values())[2:]


def test_a_row_that_has_changed_places_is_not_taken_for_another(run: RunDirectory, tmp_path: Path) -> None:
    def write(ids: list[Any]) -> None:
        cells = [str(one).encode() for one in ids]
        masks = [b"mask " + cell for cell in cells]
        pq.write_table(pa.table({"image_id": ids, "image": cells, "mask": masks}), tmp_path / "x.parquet")

    write(["a", "b&named=[", "c"])
    rows = listed("parquet", run, str(tmp_path))
    again = [dict(row) for row in rows]
    fetch_images(rows)
    assert [row["encoded"] for row in rows] == [b"a", b"b&named=[", b"c"]
    assert [fetch_address(row["mask_uri"]) for row in rows] == [b"mask a", b"mask b&named=[", b"mask c"]
    write(["b&named=[", "a", "c"])
    for row in again[:2]:
        for fetch, given in ((fetch_image, row), (fetch_address, row["mask_uri"])):
            with pytest.raises(RowError) as caught:
                fetch(given)
            assert caught.value.reason == "bad_file"
    fetch_images(again)
    assert [row.get("reason") for row in again] == ["bad_file", "bad_file", None]
    assert again[2]["encoded"] == b"c"


def test_what_an_older_manifest_does_not_say_is_not_checked(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(packed({"a.jpg": b"a1"}, tarfile.PAX_FORMAT))
    assert fetch_image({"uri": str(tmp_path / "x.tar"), "offset": 512, "length": 2}) == b"a1"
    pq.write_table(pa.table({"image": [b"1"], "mask": [b"2"]}), tmp_path / "x.parquet")
    assert fetch_image({"uri": str(tmp_path / "x.parquet"), "row": 0, "column": "image"}) == b"1"
    assert fetch_address(f"{tmp_path}/x.parquet#row=0&column=mask") == b"2"
