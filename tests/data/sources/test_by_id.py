import io
import tarfile
from pathlib import Path

import pandas as pd
import pytest

from pfit_ray.data.sources.by_id import ById, open_by_id
from pfit_ray.errors import RowError, UserError
from pfit_ray.storage import files

COLUMNS = ("cam", "keys")


def tar_of(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def opened(url: Path | str, form: str | None = None) -> ById:
    source = open_by_id(str(url), form, (".png",), "image_id", COLUMNS)
    source.setup()
    return source


def reason(source: ById, image_id: str) -> tuple[str, str]:
    with pytest.raises(RowError) as caught:
        source.fetch(image_id)
    return caught.value.reason, caught.value.message


def test_files_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"A")
    (tmp_path / "empty.png").write_bytes(b"")
    source = opened(tmp_path)
    assert source.fetch("a") == b"A"
    assert reason(source, "b")[0] == "missing"
    assert reason(source, "empty")[0] == "empty_file"


def test_members_of_tar_files(tmp_path: Path) -> None:
    tar_of(tmp_path / "0.tar", {"a.png": b"A" * 700, "b.json": b"{}"})
    tar_of(tmp_path / "1.tar", {"deep/c.png": b"C"})
    for source in (opened(tmp_path, "tar"), opened(f"{tmp_path}/*.tar")):
        assert (source.fetch("a"), source.fetch("c")) == (b"A" * 700, b"C")
        assert reason(source, "b") == ("missing", f"{source.place} has nothing for image 'b'")
    assert opened(tmp_path / "0.tar").fetch("a") == b"A" * 700


def test_a_damaged_tar_file_is_told_where_an_image_is_not_found(tmp_path: Path) -> None:
    tar_of(tmp_path / "0.tar", {"a.png": b"A"})
    data = (tmp_path / "0.tar").read_bytes()
    (tmp_path / "0.tar").write_bytes(data[:1024] + b"nonsense" * 128)
    source = opened(tmp_path, "tar")
    assert source.fetch("a") == b"A"
    assert reason(source, "b")[0] == "bad_file"


def test_a_tar_file_that_was_cut_short(tmp_path: Path) -> None:
    tar_of(tmp_path / "0.tar", {"a.png": b"A" * 700})
    source = opened(tmp_path / "0.tar")
    (tmp_path / "0.tar").write_bytes((tmp_path / "0.tar").read_bytes()[:600])
    assert reason(source, "a")[0] == "bad_file"


def test_rows_of_parquet_files(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"image_id": [f"i{n}" for n in range(50)], "cam": [b"%d" % n for n in range(50)], "keys": [[1]] * 50}
    )
    table[:35].to_parquet(tmp_path / "0.parquet", row_group_size=20)
    table[35:].to_parquet(tmp_path / "1.parquet")
    source = opened(f"{tmp_path}/*.parquet")
    for number in (0, 19, 20, 34, 35, 49):
        assert source.fetch(f"i{number}") == {"cam": b"%d" % number, "keys": [1]}
    assert reason(source, "i50")[0] == "missing"


def test_a_damaged_parquet_file(tmp_path: Path) -> None:
    (tmp_path / "0.parquet").write_bytes(b"nonsense")
    assert reason(opened(tmp_path, "parquet"), "a")[0] == "bad_file"


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    pd.DataFrame({"image_id": ["a"], "cam": [b"1"]}).to_parquet(tmp_path / "0.parquet")
    with pytest.raises(UserError, match="but not 'keys'"):
        opened(tmp_path / "0.parquet")


def test_a_place_with_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no .tar file; check the URL and options.form"):
        opened(tmp_path, "tar")
    with pytest.raises(UserError, match=r"options.url of a source: there is no folder"):
        opened(tmp_path / "none.tar")


def test_a_file_that_was_written_anew_gives_each_image_its_own(tmp_path: Path) -> None:
    tar_of(tmp_path / "x.tar", {"a.png": b"A1", "b.png": b"B1"})
    pd.DataFrame({"image_id": ["a", "b"], "cam": [b"A", b"B"], "keys": [[1], [2]]}).to_parquet(tmp_path / "x.parquet")
    tar, table = opened(tmp_path / "x.tar"), opened(tmp_path / "x.parquet")
    assert (tar.fetch("a"), table.fetch("a")) == (b"A1", {"cam": b"A", "keys": [1]})
    tar_of(tmp_path / "x.tar", {"b.png": b"B2", "a.png": b"A2"})
    pd.DataFrame({"image_id": ["b", "a"], "cam": [b"B", b"A"], "keys": [[2], [1]]}).to_parquet(tmp_path / "x.parquet")
    assert (tar.fetch("a"), tar.fetch("b")) == (b"A2", b"B2")
    assert table.fetch("a") == {"cam": b"A", "keys": [1]}
    tar_of(tmp_path / "x.tar", {"b.png": b"B3"})
    assert reason(tar, "a")[0] == "missing"
    pd.DataFrame({"image_id": ["b"], "cam": [b"B"], "keys": [[2]]}).to_parquet(tmp_path / "x.parquet")
    assert reason(table, "a")[0] == "missing"


def test_on_disks_that_do_not_tell_capital_letters_apart_no_image_gets_another_s_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cat.png").write_bytes(b"cat")
    for name in ("CAT.PNG", "Cat.png", "cAT.PNG"):
        (tmp_path / name).symlink_to("cat.png")  # such a disk finds it by these names, and lists none of them
    monkeypatch.setattr(files.os, "listdir", lambda folder: ["cat.png", "dog.png"])
    source = opened(tmp_path)
    assert source.fetch("cat") == b"cat"
    assert reason(source, "Cat")[0] == "missing"
    assert "cat.png" in reason(source, "Cat")[1]


def test_on_other_disks_nothing_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cat.png", "Cat.png"):
        (tmp_path / name).write_bytes(name.encode())
    monkeypatch.setattr(files.os, "listdir", lambda folder: pytest.fail("the folder is listed"))
    source = opened(tmp_path)
    assert (source.fetch("cat"), source.fetch("Cat")) == (b"cat.png", b"Cat.png")
