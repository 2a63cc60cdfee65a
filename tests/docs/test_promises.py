"""tests/README.md names tests that exist, and says where they run."""

import ast
import re
from pathlib import Path

import pytest
from support.places import REPOSITORY

TESTS = REPOSITORY / "tests"
ROW = re.compile(r"^\| (.+) \| `([\w./]+?)(?:::(\w+))?` \| (\w+) \|$", re.MULTILINE)
ROWS = ROW.findall((TESTS / "README.md").read_text(encoding="utf-8"))
CI_MARKS = ("slow", "multinode", "random_moments")


def where(source: str, name: str) -> str:
    """Where a test runs, by its own marks and those of its module."""
    tree = ast.parse(source)
    (test,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    of_module = [node.value for node in tree.body if isinstance(node, ast.Assign) and "pytestmark" in ast.unparse(node)]
    marks = set(
        re.findall(
            r"\w+\b(?!=)",
            " ".join(ast.unparse(node) for node in [*test.decorator_list, *of_module]),
        )
    )
    if "nightly" in marks:
        return "nightly"
    return "CI" if marks & set(CI_MARKS) else "pytest"


@pytest.mark.parametrize(("promise", "file", "name", "runs"), ROWS)
def test_the_test_of_a_promise_exists_and_runs_there(promise: str, file: str, name: str, runs: str) -> None:
    path = TESTS / file
    assert path.is_file()
    if name:
        assert where(path.read_text(encoding="utf-8"), name) == runs


def test_every_test_that_is_slow_or_nightly_stands_in_the_table() -> None:
    """A file of them, at least."""
    named = {file for _, file, _, _ in ROWS}
    marked = re.compile(r"pytest\.mark\.(?:slow|multinode|nightly)\b")
    files = {path.relative_to(TESTS).as_posix() for path in TESTS.rglob("test_*.py") if marked.search(path.read_text())}
    assert files - named - {Path(__file__).relative_to(TESTS).as_posix()} <= {
        "docs/test_site.py",
        "results/explorer/test_browser.py",
        "results/report/test_browser.py",
    }


def test_every_line_of_the_tables_is_read() -> None:
    lines = (TESTS / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(ROWS) == sum(line.startswith("| ") and not line.startswith("| promise ") for line in lines)


def test_marks_decide() -> None:
    module = "pytestmark = pytest.mark.slow\n@pytest.mark.parametrize('a', [1])\ndef test_a(a): ...\n"
    assert where(module, "test_a") == "CI"
    assert where(module.replace("slow", "nightly"), "test_a") == "nightly"
    assert where(module.replace("slow", "timeout(3)"), "test_a") == "pytest"
