"""The explorer in a real browser: no errors, and everything that moves."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from support.explorer_run import TOKEN

from pfit_ray.results.explorer.app import make_app
from pfit_ray.results.explorer.state import Explorer
from pfit_ray.rundir.directory import RunDirectory, open_run
from pfit_ray.rundir.review import run_marks

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(small_run, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    folder = tmp_path_factory.mktemp("explorer") / "run"
    shutil.copytree(small_run.folder, folder)
    return RunDirectory(str(folder))


@pytest.fixture(scope="module")
def link(run: RunDirectory) -> Iterator[str]:
    """The start-up link of a server on loopback."""
    _, config = open_run(run.root)
    explorer = Explorer(config, run)
    explorer.refresh()
    server = uvicorn.Server(
        uvicorn.Config(make_app(explorer, TOKEN), port=0, log_level="warning", ws="none", lifespan="off")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/?token={TOKEN}"
    server.should_exit = True
    thread.join()


class Watched:
    """A page; `said` holds what its console, errors and requests to other places have said."""

    def __init__(self, chromium: Any, link: str, **settings: Any) -> None:
        self.root = link.partition("?")[0]
        self.said: list[str] = []
        self.context = chromium.new_context(**settings)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("requestfailed", self._note)
        self.page.on("request", lambda request: request.url.startswith(self.root) or self.said.append(request.url))
        self.page.goto(link)
        assert self.page.url == self.root

    def _note(self, request: Any) -> None:
        if request.failure != "net::ERR_ABORTED":  # a picture that was still to come when the page was left
            self.said.append(f"{request.url}: {request.failure}")

    def open(self, path: str) -> Any:
        self.page.goto(self.root + path)
        self.page.wait_for_load_state("networkidle")
        return self.page


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 1200), ("light", 360)])
def test_pages_fit_and_have_their_pictures(chromium: Any, link: str, scheme: str, width: int) -> None:
    watched = Watched(chromium, link, viewport={"width": width, "height": 900}, color_scheme=scheme)
    for path in ("", "image?id=chelsea", "image?id=broken"):
        page = watched.open(path)
        for picture in page.locator("img:visible").all():
            picture.scroll_into_view_if_needed()
        page.wait_for_load_state("networkidle")
        inner = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert inner[0] <= inner[1]
        assert (
            page.evaluate("[...document.images].filter(one => one.src && !one.hidden && !one.naturalWidth).length") == 0
        )
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 28)"}[scheme]
        assert page.evaluate(UNNAMED) == 0
        assert page.evaluate(CONTRASTS) == []
    assert watched.said == []
    watched.context.close()


UNNAMED = """[...document.querySelectorAll('input:not([type=hidden]), select, button')]
  .filter((one) => !one.labels?.length && !one.textContent.trim()).length"""
"""Fields and buttons that screen readers have no name for."""

CONTRASTS = """() => {
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  const linear = (c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = (rgb) => rgb.slice(0, 3).map((c) => linear(c / 255))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const paper = (one) => {
    for (; one; one = one.parentElement) {
      const colour = numbers(getComputedStyle(one).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const one of document.querySelectorAll("main *, header *")) {
    if (![...one.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim())) continue;
    if (!one.checkVisibility()) continue;
    const [a, b] = [light(numbers(getComputedStyle(one).color)), light(paper(one))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) poor.push(one.outerHTML);
  }
  return poor;
}"""
"""Texts that stand out less than WCAG AA asks for."""


def test_slider_stages_marks_and_filters(chromium: Any, link: str, run: RunDirectory) -> None:
    watched = Watched(chromium, link, viewport={"width": 1200, "height": 900})
    page = watched.page
    page.locator("select[name=status]").select_option("ok")
    page.locator("select[name=class]").select_option("motorbike")
    page.get_by_role("button", name="Show").click()
    assert page.locator(".card .id").all_inner_texts() == ["motorcycle_left"]
    page.get_by_role("link", name="Clear").click()
    page.locator("select[name=status]").select_option("ok")
    page.locator("select[name=sort]").select_option("id")
    page.locator("select[name=descending]").select_option("downwards")
    page.get_by_role("button", name="Show").click()
    assert page.locator(".card .id").all_inner_texts() == ["rocket", "motorcycle_left", "coffee", "chelsea"]
    page.get_by_role("link", name="motorcycle_left").click()

    overlay, slider = page.locator("#overlay"), page.get_by_label("Opacity of the stage")
    opacity = "getComputedStyle(document.getElementById('overlay')).opacity"
    assert page.evaluate(opacity) == "0.65"
    slider.fill("20")
    assert page.evaluate(opacity) == "0.2"
    slider.press("ArrowRight")
    assert (page.evaluate(opacity), page.locator("#percent").inner_text()) == ("0.21", "21 %")
    slider.evaluate("one => one.blur()")
    page.keyboard.press("+")
    assert page.evaluate(opacity) == "0.31"

    page.get_by_role("link", name="combined CAM").click()
    assert "stage=combined_cam" in overlay.get_attribute("src")
    assert page.locator("#caption").inner_text() == "combined CAM"
    page.keyboard.press("]")
    assert page.locator("#caption").inner_text() == "affinity label"
    page.get_by_role("link", name="image", exact=True).click()
    assert not overlay.is_visible()
    page.keyboard.press("[")
    assert overlay.is_visible()

    page.get_by_role("button", name="Reject").click()
    page.get_by_text("rejected", exact=True).wait_for()
    assert page.get_by_role("button", name="Reject").get_attribute("aria-pressed") == "true"
    assert run_marks(run)["motorcycle_left"].mark == "reject"
    page.keyboard.press("ArrowRight")
    page.get_by_role("heading", name="coffee").wait_for()
    assert page.evaluate(opacity) == "0.31"
    page.get_by_label("go to the next image after a mark").check()
    page.keyboard.press("a")
    page.get_by_role("heading", name="chelsea").wait_for()
    page.get_by_label("keys:").uncheck()
    page.keyboard.press("r")
    page.get_by_label("keys:").check()
    page.keyboard.press("w")
    page.get_by_text("needs work", exact=True).wait_for()
    marks = {name: one.mark for name, one in run_marks(run).items()}
    assert marks == {"motorcycle_left": "reject", "coffee": "accept", "chelsea": "needs_work"}

    page.get_by_role("link", name="All found").click()
    assert page.locator(".mark").all_inner_texts() == ["✗ rejected", "✓ accepted", "✎ needs work"]
    page.locator("select[name=mark]").select_option("needs work")
    page.get_by_role("button", name="Show").click()
    assert page.locator(".card .id").all_inner_texts() == ["chelsea"]
    page.get_by_role("button", name="Look for new results").click()
    assert page.locator(".card .id").all_inner_texts() == ["chelsea"]
    assert watched.said == []
    watched.context.close()


def test_without_scripts(chromium: Any, link: str, run: RunDirectory, tmp_path: Path) -> None:
    watched = Watched(chromium, link, java_script_enabled=False)
    page = watched.page
    page.goto(watched.root + "image?id=rocket")
    page.locator("a.stage", has_text="pseudo label").click()
    assert page.locator("#caption").inner_text() == "pseudo label"
    page.get_by_role("button", name="Accept").click()
    assert page.locator("#said").inner_text() == "accepted"
    assert page.locator("#caption").inner_text() == "pseudo label"
    assert run_marks(run)["rocket"].mark == "accept"
    assert watched.said == []
    watched.context.close()


def test_without_the_token(chromium: Any, link: str) -> None:
    context = chromium.new_context()
    page = context.new_page()
    answer = page.goto(link.partition("?")[0])
    assert answer.status == 403
    assert "Open the link that pfit-ray serve has printed" in page.inner_text("body")
    context.close()
