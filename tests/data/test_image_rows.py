import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pfit_ray.data.image_rows import image_column, read_image_rows

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
        ({"image": pa.binary()}, "picture", None),
    ],
)
def test_image_column(fields: dict[str, pa.DataType], wanted: str | None, column: str | None) -> None:
    assert image_column(pa.schema(list(fields.items())), wanted) == column


def parquet(kind: pa.DataType, wrap: bool, rows: int = 100, group: int = 30) -> io.BytesIO:
    """Row n holds the bytes "n", row 42 a null."""
    values = [None if number == 42 else str(number).encode() for number in range(rows)]
    cells = [{"bytes": value, "path": "x"} for value in values] if wrap else values
    buffer = io.BytesIO()
    table = pa.table({"image": pa.array(cells, kind), "other": [b"y" * 100] * rows})
    pq.write_table(table, buffer, row_group_size=group)
    return io.BytesIO(buffer.getvalue())


@pytest.mark.parametrize(
    ("kind", "wrap"),
    [(pa.binary(), False), (pa.large_binary(), False), (STRUCT, True)],
    ids=["bytes", "large", "struct"],
)
@pytest.mark.parametrize("rows", [[0], [99], [29, 30, 31], [3, 41, 42, 43, 95], list(range(100))])
def test_rows_by_number(kind: pa.DataType, wrap: bool, rows: list[int]) -> None:
    found = list(read_image_rows(parquet(kind, wrap), "image.bytes" if wrap else "image", rows))
    assert found == [(row, None if row == 42 else str(row).encode()) for row in rows]


def test_rows_that_the_file_does_not_have_are_left_out() -> None:
    assert list(read_image_rows(parquet(pa.binary(), False), "image", [98, 100, 1000])) == [(98, b"98")]


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
    assert [len(data or b"") for _, data in read_image_rows(file, "image", [12, 13])] == [size, size]
    assert file.count < 1.5 * 10 * size
