import itertools
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pfit_ray import storage
from pfit_ray.data.sources import rows
from pfit_ray.data.sources.rows import read_rows
from pfit_ray.errors import UserError


def needs_a(columns: Sequence[str]) -> Sequence[str] | str:
    return ("a", "b", "nothing") if "a" in columns else "'a'"


@pytest.fixture(params=["local", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}"


def test_the_same_rows_of_every_kind_of_table(root: str, tmp_path: Path) -> None:
    storage.write_bytes(f"{root}/t.CSV", b'\xef\xbb\xbfa,b\r\n1,"x\ny"\r\n\xc3\xa9,\r\n')
    storage.write_bytes(f"{root}/t.jsonl", '{"a": "1", "b": "x\\ny"}\n\n{"a": "é", "b": ""}'.encode())
    pq.write_table(pa.table({"a": ["1", "é"], "b": ["x\ny", ""], "c": [[1], [2]]}), tmp_path / "parquet")
    storage.write_bytes(f"{root}/t.parquet", (tmp_path / "parquet").read_bytes())
    cells = [{"a": "1", "b": "x\ny"}, {"a": "é", "b": ""}]
    for name, places in (
        ("CSV", ["line 3", "line 4"]),
        ("jsonl", ["line 1", "line 3"]),
        ("parquet", ["row 1", "row 2"]),
    ):
        found = list(read_rows(f"{root}/t.{name}", "data.table", needs_a))
        assert [place for place, _ in found] == places
        assert [row for _, row in found] == cells


def test_a_missing_column_is_told_with_the_others(root: str) -> None:
    storage.write_bytes(f"{root}/t.csv", b"b,c\n1,2\n")
    with pytest.raises(UserError) as caught:
        next(read_rows(f"{root}/t.csv", "data.table", needs_a))
    assert str(caught.value) == f"data.table: {root}/t.csv has the columns 'b', 'c'; it needs 'a'"


@pytest.mark.parametrize(
    "text",
    [
        ",a,b\n0,1,x\n1,2,\n",
        "a,b,\n1,x,\n2,\n",
        "a;b\r\n1;x\r\n2;\r\n",
        "\ufeffa\tb\n1\tx\n2\t\n",
        '\n"a", "b"\n"1", "x"\n\n2, \n',
    ],
)
def test_csv_as_tools_write_it(root: str, text: str) -> None:
    storage.write_bytes(f"{root}/t.csv", text.encode())
    found = [row for _, row in read_rows(f"{root}/t.csv", "data.table", needs_a)]
    assert found == [{"a": "1", "b": "x"}, {"a": "2", "b": ""}]


@pytest.mark.parametrize(
    ("text", "words"),
    [("a,b\n1,x,y\n", "line 2 has more cells than the header"), ("a,a,b\n1,2,3\n", "has more than one column 'a'")],
)
def test_csv_that_cannot_be_understood(root: str, text: str, words: str) -> None:
    storage.write_bytes(f"{root}/t.csv", text.encode())
    with pytest.raises(UserError, match=words):
        list(read_rows(f"{root}/t.csv", "data.table", needs_a))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_tables_are_streams(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """100,000 rows from remote storage: neither the bytes nor the rows are held together."""
    monkeypatch.setattr(rows, "_BLOCK", 1 << 16)
    names = (f"{number:060d}" for number in itertools.count())
    path = tmp_path / f"t.{kind}"
    count = 100_000
    if kind == "parquet":
        pq.write_table(pa.table({"a": list(itertools.islice(names, count))}), path, data_page_size=1 << 16)
    else:
        line = "{}\n" if kind == "csv" else '{{"a": "{}"}}\n'
        path.write_text("a\n" * (kind == "csv") + "".join(line.format(next(names)) for _ in range(count)))
    data = path.read_bytes()
    monkeypatch.setattr(storage, "is_local", lambda url: False)
    monkeypatch.setattr(storage, "exists", lambda url: True)
    monkeypatch.setattr(storage, "list_entries", lambda url, threads: iter([storage.Entry(url, len(data), None)]))
    read = rows.open_seekable
    monkeypatch.setattr(
        rows, "open_seekable", lambda url, block: read(url, block=block, read=lambda url, start, end: data[start:end])
    )
    stream = read_rows(f"memory://{path.name}", "data.table", needs_a)
    next(stream)
    tracemalloc.start()
    assert sum(1 for _ in stream) == count - 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3e6  # the texts alone take 10 MB
