import pytest

from pfit_ray.data.sources.item import MAX_ID, hashed_id, is_plain, path_id, printable


@pytest.mark.parametrize("stem", ["2007_000032", "a", "A-b_9", "_x", "a" * MAX_ID])
def test_plain(stem: str) -> None:
    assert is_plain(stem)


@pytest.mark.parametrize("stem", ["", "-a", "a.b", "a b", "a/b", "..", "é", "a\n", "a" * (MAX_ID + 1)])
def test_not_plain(stem: str) -> None:
    assert not is_plain(stem)
    assert is_plain(hashed_id(stem, stem + ".jpg") if stem else "x")


def test_hashed_id() -> None:
    assert hashed_id("dir/a b", "dir/a b.jpg") == "dir_a_b-39f9f48effcee7fd"
    assert hashed_id("-x", "-x.jpg").startswith("_x-")
    assert hashed_id("a.b", "a.b.jpg") != hashed_id("a_b", "a_b.jpg")
    assert len(hashed_id("a/" * 500, "a/" * 500 + "x.jpg")) == MAX_ID
    assert is_plain(hashed_id("\udcff", "\udcff.jpg"))


def test_path_id() -> None:
    assert path_id("a.jpg") == path_id("a") == "a"
    assert path_id("s/a.jpg") == hashed_id("s/a", "s/a.jpg")
    assert path_id("../../a.jpg") == hashed_id("../../a", "../../a.jpg")
    assert len({path_id(f"{letter}.jpg") for letter in "éèêë"}) == 4


def test_printable() -> None:
    assert printable("é/a.jpg") == "é/a.jpg"
    assert printable("\udcff.jpg") == "\ufffd.jpg"
