from pathlib import Path

import pytest

from pfit_ray import storage
from pfit_ray.data.sources.files import find_files
from pfit_ray.errors import UserError


@pytest.fixture(params=["local", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    root = str(tmp_path / "r") if request.param == "local" else f"memory://{tmp_path.name}"
    for name in ("a.tar", "b.TAR", "c.txt", ".d.tar", "s/.t/e.tar", "s/f.tar"):
        storage.write_bytes(storage.join(root, name), b"123")
    return root


def test_files_with_a_suffix(root: str) -> None:
    found = list(find_files(root, (".tar",)))
    assert [path for path, _ in found] == ["a.tar", "b.TAR", "s/f.tar"]
    assert [entry.url for _, entry in found] == [f"{root}/{path}" for path, _ in found]
    assert {entry.size for _, entry in found} == {3}
    assert all(entry.version for _, entry in found)


@pytest.mark.parametrize(
    ("pattern", "paths"), [("*.tar", ["a.tar"]), ("**/*.tar", ["a.tar", "s/f.tar"]), ("s/?.tar", ["f.tar"]), ("x*", [])]
)
def test_patterns(root: str, pattern: str, paths: list[str]) -> None:
    assert [path for path, _ in find_files(f"{root}/{pattern}", (".tar",))] == paths


def test_one_file(root: str) -> None:
    assert [(path, entry.url) for path, entry in find_files(f"{root}/a.tar", (".tar",))] == [("a.tar", f"{root}/a.tar")]


def test_no_such_folder(root: str) -> None:
    for place in ("gone", "gone/*.tar"):
        with pytest.raises(UserError, match=r"data.root: there is no folder .*gone$"):
            find_files(f"{root}/{place}", (".tar",))
