import base64
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.page_tags import Tags
from support.places import REPOSITORY
from support.small_runs import SMALL, command, label_files, label_map

from pfit_ray.config.load import load_config
from pfit_ray.results.report import report_page, write_report
from pfit_ray.results.report.charts import bars, flow, histogram, lines
from pfit_ray.results.report.scores import MOST_CLASSES, REST, confusions
from pfit_ray.results.report.sheets import split_budget
from pfit_ray.results.report.thumbnails import _data_url
from pfit_ray.results.totals import NO_PREDICTION
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.storage import read_bytes

BAD = "<script>alert(1)</script>"


def test_charts_escape_names() -> None:
    timing = {BAD: {"images": 1, "seconds": 2.0}}
    for chart in (
        flow(BAD, timing),
        bars(BAD, [(BAD, 1.0)]),
        histogram(BAD, [1, 2]),
        lines(BAD, [(BAD, [(0, 1), (1, 2)])], [(BAD, 0.5)]),
    ):
        assert [tag for tag, _ in Tags(chart).tags].count("script") == 0
        assert "&lt;script&gt;" in chart


def test_bars_and_histograms_are_to_scale() -> None:
    widths = [a["width"] for tag, a in Tags(bars("x", [("a", 0.5), ("b", 1.0)], 1.0)).tags if tag == "rect"]
    assert widths == ["75.0", "150.0"]
    heights = [a["height"] for tag, a in Tags(histogram("x", [0, 5, 10])).tags if tag == "rect"]
    assert heights == ["0.0", "65.0", "130.0"]
    assert lines("x", [("a", [])]) == ""


def test_a_finished_run(small_run, tmp_path: Path) -> None:
    assert (small_run.folder / "report.html").exists()
    said = command("report", str(small_run.folder), "-o", str(tmp_path / "page.html"), "--images", "200")
    assert (said.code, said.out.split()) == (0, [str(tmp_path / "page.html")])
    text = (tmp_path / "page.html").read_text()
    assert len(text) < 10_000_000
    page = Tags(text)
    pictures = [a for tag, a in page.tags if tag == "img"]
    assert pictures
    assert all(a["alt"] and str(a["src"]).startswith("data:image/webp;base64,") for a in pictures)
    captions = {str(a["alt"]).rpartition(" of ")[0] for a in pictures}
    assert captions >= {"image", "cam", "combined cam", "walk", "pseudo label", "prediction", "ground truth"}
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}
    assert all(a["aria-label"] for tag, a in page.tags if tag == "svg")
    for part in ("Scores against ground truth", "Trainings", "Image-level labels", "failed: unreadable"):
        assert part in text
    charts = [str(a["aria-label"]) for tag, a in page.tags if tag == "svg"]
    (sweep,) = (chart for chart in charts if chart.startswith("mIoU by background threshold"))
    metrics = json.loads((small_run.folder / "evaluation.json").read_text())
    for name in ("cam", "combined_cam", "walk"):
        assert f"{name}: best at {metrics[name]['threshold']:g}, {metrics[name]['miou']:.4g}" in sweep
    assert sweep.endswith("chosen for the pseudo label: 0.6")
    for name in ("cam", "combined_cam", "walk", "pseudo_label", "prediction"):
        assert any(chart.startswith("IoU, cat") and f"{name} " in chart for chart in charts)
        assert any(chart.startswith("FN") and f"{name} " in chart for chart in charts)
        assert f"Confusion matrix, {name}" in text


def test_pixels_per_class_are_those_of_the_label_maps(small_run) -> None:
    folder = small_run.folder
    page = Tags(report_page(load_config(str(folder / "config.yaml"), read=read_bytes), RunDirectory(str(folder))))
    charts = [str(a["aria-label"]) for tag, a in page.tags if tag == "svg"]
    for label in ("affinity_label", "pseudo_label", "prediction"):
        maps = [label_map(data).ravel() for data in label_files(folder, label).values()]
        share = 100 * np.mean(np.concatenate(maps) == 1)
        (chart,) = (one for one in charts if one.startswith(f"Pixels per class, {label.replace('_', ' ')}s"))
        assert f"cat {share:.4g} %" in chart
        assert ("unsure" in chart) == any((one == 255).any() for one in maps)


def test_sheets_by_class_show_each_picture_once(small_run) -> None:
    folder = small_run.folder
    text = report_page(load_config(str(folder / "config.yaml"), read=read_bytes), RunDirectory(str(folder)))
    heading = "<h3>Pass labels, class cat</h3>"
    assert heading in text
    assert '<a href="#labels-chelsea">chelsea</a>' in text[text.index(heading) :]
    page = Tags(text)
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(set(ids)) == len(ids)
    links = {str(a["href"])[1:] for tag, a in page.tags if tag == "a"}
    assert links <= set(ids)
    assert {"passes", "scores", "confusion", "classes", "sheets", "provenance"} <= links


def test_no_page_has_more_images_than_are_asked_for(small_run) -> None:
    folder = small_run.folder
    config, run = load_config(str(folder / "config.yaml"), read=read_bytes), RunDirectory(str(folder))
    for images in (0, 1, 7):
        page = report_page(config, run, images)
        assert page.count('<section class="card"') <= images
    assert '<section class="card"' in page


@pytest.mark.parametrize(
    ("images", "passes", "classes", "expected"),
    [(200, 3, 20, (16, 3)), (72, 3, 20, (6, 1)), (72, 1, 0, (24, 0)), (0, 3, 4, (0, 0))],
)
def test_shares_of_the_images(images: int, passes: int, classes: int, expected: tuple[int, int]) -> None:
    assert split_budget(images, passes, classes) == expected


def test_thumbnails_of_noise_keep_a_page_of_200_below_its_limit() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    url = _data_url(noise)
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as picture:
        assert picture.format == "WEBP"
    assert 200 * 5 * len(url) < 8_500_000


IOU = dict.fromkeys(("background", "cat", "dog"), 0.5)


def test_a_confusion_matrix_has_the_share_of_each_true_class() -> None:
    pixels = {"background": {"background": 75, "dog": 25}, "dog": {"cat": 9999, "dog": 1, NO_PREDICTION: 10_000}}
    maps = {"walk": {"iou": IOU, "confusion": pixels}, "old": {"iou": IOU}}
    (matrix,) = confusions(maps)
    assert matrix.columns == ["background", "cat", "dog", NO_PREDICTION]
    assert [(true, count, [cell.text for cell in cells]) for true, count, cells in matrix.rows] == [
        ("background", 100, ["75.0", "", "25.0", ""]),
        ("dog", 20_000, ["", "50.0", "<0.1", "50.0"]),
    ]
    assert "--accent) 30%" in matrix.rows[0][2][0].style
    assert "--c1) 10%" in matrix.rows[0][2][2].style


def test_a_confusion_matrix_of_many_classes_names_the_largest() -> None:
    names = [f"class {number}" for number in range(100)]
    pixels = {name: {name: number + 1, "class 0": 10} for number, name in enumerate(names)}
    (matrix,) = confusions({"walk": {"iou": dict.fromkeys(names, 0.5), "confusion": pixels}})
    assert [true for true, *_ in matrix.rows] == ["class 0", *names[-(MOST_CLASSES - 1) :]]
    assert matrix.columns[-1] != REST
    pixels["class 99"]["class 1"] = 100
    (matrix,) = confusions({"walk": {"iou": dict.fromkeys(names, 0.5), "confusion": pixels}})
    assert matrix.columns[-1] == REST
    assert matrix.rows[-1][2][-1].text == "47.6"


def test_scores_and_tables_of_an_older_version(small_run, tmp_path: Path) -> None:
    """Neither confusion matrices nor the areas of label maps."""
    folder = tmp_path / "run"
    shutil.copytree(small_run.folder, folder)
    for name in ("seeds", "labels", "predict"):
        for file in (folder / name / "rows").iterdir():
            pq.write_table(pq.read_table(file).drop_columns(["label_ids", "label_pixels"]), file)
        for file in (folder / name / "done").iterdir():
            file.write_text(json.dumps({**json.loads(file.read_text()), "sums": None}))
    metrics = json.loads((folder / "evaluation.json").read_text())
    for numbers in metrics.values():
        if isinstance(numbers, dict):
            del numbers["confusion"]
    config = load_config(str(folder / "config.yaml"), read=read_bytes)
    page = report_page(config, RunDirectory(str(folder)), metrics=metrics)
    assert "Images per class, pass labels" in page
    assert "Pixels per class" not in page
    assert "Confusion matrix" not in page


def test_a_run_of_pass_seeds_alone(small_run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(small_run.folder, folder)
    for name in ("labels", "predict", "train", "evaluation.json"):
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()
    config = load_config(str(folder / "config.yaml"), ["passes=[seeds]"], read_bytes)
    page = report_page(config, RunDirectory(str(folder)))
    assert "<h3>Pass seeds, class cat</h3>" in page
    assert "Pixels per class, affinity labels" in page
    assert "No pass" not in page


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
    assert "script" not in {tag for tag, _ in Tags(page).tags}
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
    assert "image of chelsea" in page


def test_a_run_that_has_not_begun(tmp_path: Path) -> None:
    overrides = [*SMALL, f"output={tmp_path}"]
    config = load_config(str(REPOSITORY / "configs" / "quickstart.yaml"), overrides, read_bytes)
    url = write_report(config, RunDirectory(str(tmp_path)))
    assert "No pass has begun" in Path(url).read_text()


@pytest.mark.parametrize("images", ["-1", "201"])
def test_too_many_images_are_a_mistake(tmp_path: Path, images: str) -> None:
    assert command("report", str(tmp_path), "--images", images).code == 2
