import shutil
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_runs import SMALL, command

from pfit_ray.config.load import load_config
from pfit_ray.layout import RunDirectory
from pfit_ray.report import report_page, write_report
from pfit_ray.report.charts import bars, flow, histogram, lines
from pfit_ray.storage import read_bytes

BAD = "<script>alert(1)</script>"


class Page(HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_charts_escape_names() -> None:
    timing = {BAD: {"images": 1, "seconds": 2.0}}
    for chart in (
        flow(BAD, timing),
        bars(BAD, [(BAD, 1.0)]),
        histogram(BAD, [1, 2]),
        lines(BAD, [(BAD, [(0, 1), (1, 2)])], [(BAD, 0.5)]),
    ):
        assert [tag for tag, _ in Page(chart).tags].count("script") == 0
        assert "&lt;script&gt;" in chart


def test_bars_and_histograms_are_to_scale() -> None:
    widths = [a["width"] for tag, a in Page(bars("x", [("a", 0.5), ("b", 1.0)], 1.0)).tags if tag == "rect"]
    assert widths == ["75.0", "150.0"]
    heights = [a["height"] for tag, a in Page(histogram("x", [0, 5, 10])).tags if tag == "rect"]
    assert heights == ["0.0", "65.0", "130.0"]
    assert lines("x", [("a", [])]) == ""


def test_a_finished_run(small_run, tmp_path: Path) -> None:
    assert (small_run.folder / "report.html").exists()
    said = command("report", str(small_run.folder), "-o", str(tmp_path / "page.html"), "--images", "200")
    assert (said.code, said.out.split()) == (0, [str(tmp_path / "page.html")])
    text = (tmp_path / "page.html").read_text()
    assert len(text) < 10_000_000
    page = Page(text)
    pictures = [a for tag, a in page.tags if tag == "img"]
    assert pictures
    assert all(a["alt"] and str(a["src"]).startswith("data:image/webp;base64,") for a in pictures)
    captions = {str(a["alt"]).rpartition(" of ")[0] for a in pictures}
    assert captions >= {"photograph", "cam", "combined cam", "walk", "pseudo label", "prediction", "ground truth"}
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}
    assert all(a["aria-label"] for tag, a in page.tags if tag == "svg")
    for part in ("Scores against ground truth", "Trainings", "Image-level labels", "failed: unreadable", "chosen"):
        assert part in text


def test_a_run_that_is_unfinished_and_whose_class_holds_markup(small_run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(small_run.folder, folder)
    for name in ("labels", "predict", "train"):
        shutil.rmtree(folder / name)
    (folder / "evaluation.json").unlink()
    text = (folder / "config.yaml").read_text()
    assert "- rocket" in text
    config = load_config(str(folder / "config.yaml"), read=read_bytes)
    names = [BAD if name == "cat" else name for name in config.data.classes]
    config = config.model_copy(update={"data": config.data.model_copy(update={"classes": tuple(names)})})
    page = report_page(config, RunDirectory(str(folder)))
    assert "Scores against ground truth" not in page
    assert "script" not in {tag for tag, _ in Page(page).tags}
    assert "&lt;script&gt;" in page


def test_a_run_whose_images_lack_a_score(small_run, tmp_path: Path) -> None:
    """As with `combine.mode` none, which has no masks that could agree."""
    folder = tmp_path / "run"
    shutil.copytree(small_run.folder, folder)
    for file in (folder / "seeds" / "rows").iterdir():
        rows = pq.read_table(file)
        place = rows.schema.get_field_index("mask_agreement")
        pq.write_table(rows.set_column(place, rows.schema.field(place), pa.nulls(len(rows), pa.float32())), file)
    page = report_page(load_config(str(folder / "config.yaml"), read=read_bytes), RunDirectory(str(folder)))
    assert "seeds: cam_margin: images in" in page
    assert "photograph of chelsea" in page


def test_a_run_that_has_not_begun(tmp_path: Path) -> None:
    overrides = [*SMALL, f"output={tmp_path}"]
    config = load_config(str(Path(__file__).parents[2] / "configs" / "quickstart.yaml"), overrides, read_bytes)
    url = write_report(config, RunDirectory(str(tmp_path)))
    assert "No pass has begun" in Path(url).read_text()


@pytest.mark.parametrize("images", ["-1", "201"])
def test_too_many_images_are_a_mistake(tmp_path: Path, images: str) -> None:
    assert command("report", str(tmp_path), "--images", images).code == 2
