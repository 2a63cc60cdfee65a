"""Benchmarks are run by hand: this shows early when what they import is no longer there."""

import importlib

import pytest
from support.places import REPOSITORY

BENCHMARKS = REPOSITORY / "benchmarks"
MODULES = [".".join(path.relative_to(BENCHMARKS).with_suffix("").parts) for path in sorted(BENCHMARKS.rglob("*.py"))]


@pytest.mark.parametrize("name", MODULES)
def test_imports(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    importlib.import_module(name)
