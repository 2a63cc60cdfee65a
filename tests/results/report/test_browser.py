from typing import Any

import pytest
from conftest import SmallRun

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 1200), ("light", 360)])
def test_the_page_in_a_browser(small_run: SmallRun, chromium: Any, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python")
    said: list[str] = []
    page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
    page.goto((small_run.folder / "report.html").as_uri())
    inner = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    broken = page.evaluate("[...document.images].filter(one => !one.naturalWidth).length")
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.keyboard.press("Tab")
    focused = page.evaluate("document.activeElement.getAttribute('href')")
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    problems = axe.Axe().run(page)
    page.close()
    assert said == []
    assert focused == "#passes"
    assert problems.violations_count == 0, problems.generate_report()
    assert inner[0] <= inner[1]
    assert broken == 0
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 28)"}[scheme]
