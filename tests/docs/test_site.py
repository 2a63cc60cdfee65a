"""The documentation builds as a site without a warning, loads nothing from the network and is searched from disk."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.doc_pages import DOCS
from support.places import REPOSITORY

LOADED = re.compile(
    r"""<(?:script|img|iframe|source|video)\b[^>]*\ssrc\s*=\s*["']?(?:https?:)?//|"""
    r"""<link\b[^>]*\shref\s*=\s*["']?(?:https?:)?//|url\(\s*["']?(?:https?:)?//|@import\s+["'](?:https?:)?//"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for module in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(module, reason="the site needs the extra docs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-c", "docs/site", "docs", str(folder)]
    built = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (built.returncode, built.stderr) == (0, "")
    return folder


def test_every_page_is_there_and_loads_nothing_from_the_network(site: Path) -> None:
    for path in DOCS:
        assert (site / path.relative_to(REPOSITORY / "docs").with_suffix(".html")).is_file()
    read = [path for path in site.rglob("*") if path.suffix in (".html", ".css")]
    assert {path.name for path in read if LOADED.search(path.read_text(encoding="utf-8"))} == set()


def test_what_loads_from_the_network_would_be_found() -> None:
    assert LOADED.search('<script src="//cdn.example/x.js"></script>')
    assert LOADED.search('<link rel="stylesheet" href="https://cdn.example/x.css">')
    assert LOADED.search("@font-face {src: url(https://cdn.example/x.woff2)}")
    assert not LOADED.search('<script src="_static/x.js"></script><a href="https://a.b"><link href="x.css">')


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1200])
def test_pages_and_search_in_a_browser_without_network(site: Path, chromium: Any, width: int) -> None:
    said: list[str] = []
    page = chromium.new_context(offline=True, viewport={"width": width, "height": 900}).new_page()
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
    for path in DOCS:
        page.goto((site / path.relative_to(REPOSITORY / "docs").with_suffix(".html")).as_uri())
        inner = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert inner[0] <= inner[1], path.stem
        assert page.evaluate("[...document.images].filter(one => !one.naturalWidth).length") == 0
    page.goto(f"{(site / 'search.html').as_uri()}?q=quickshift")
    page.wait_for_selector("#search-results li")
    found = page.locator("#search-results li").all_inner_texts()
    page.context.close()
    assert said == []
    assert any("Configuration" in text for text in found)
