"""The report of a run: one HTML page that needs no network."""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pfit_ray import storage
from pfit_ray.config import PASSES, RunConfig, resolved_yaml
from pfit_ray.constants import BACKGROUND, IGNORE, REASONS
from pfit_ray.data.sources.notes import Note
from pfit_ray.results.report.charts import bars, flow, histogram, lines
from pfit_ray.results.report.gather import PassTold, gather_pass
from pfit_ray.results.report.scores import confusions, score_charts
from pfit_ray.results.report.sheets import CLASS_SHARE, PER_PASS, draw_sheets
from pfit_ray.results.score_tables import scored_maps
from pfit_ray.rundir.directory import IMAGE_SET, LABEL_COLUMN, NETWORKS, RunDirectory
from pfit_ray.rundir.pace import read_metrics
from pfit_ray.rundir.provenance import describe, describe_versions

MAX_IMAGES = 200
_POINTS = 200
_CLASSES = 40


def report_page(config: RunConfig, run: RunDirectory, images: int = 72, metrics: dict[str, Any] | None = None) -> str:
    """The page of a run, finished or not.

    Args:
        config: the run's config.
        run: the run directory.
        images: images with thumbnails at most, in [0, 200]; they are shared by passes and sheets.
        metrics: scores as `evaluate_run` gives them; None: those of the run's evaluation.json, if there is one.
    """
    images = min(images, MAX_IMAGES)
    most = -(-images // PER_PASS), -(-images // CLASS_SHARE)  # what one pass, and one class, would get alone
    passes = [told for name in PASSES if (told := gather_pass(run, name, config.seed, *most))]
    if metrics is None:
        metrics = run.read_json("evaluation.json") or {}
    maps = scored_maps(metrics)
    environment = Environment(
        loader=PackageLoader("pfit_ray.results.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html.j2").render(
        root=run.root,
        passes=passes,
        notes=_notes(run, metrics or {}),
        flows={told.name: flow(told.name, told.stages) for told in passes if told.stages},
        reasons=REASONS,
        class_charts=[_class_charts(config, told) for told in passes if told.ok],
        histograms=[
            histogram(f"{told.name}: {name}", counts)
            for told in passes
            if told.ok
            for name, counts in told.histograms.items()
        ],
        maps=maps,
        score_charts=score_charts(maps, config.pseudo_label.threshold),
        confusions=confusions(maps),
        curves=_curves(run),
        sheets=draw_sheets(config, run, passes, images),
        provenance=[describe(name, numbers["provenance"]) for name, numbers in maps.items()],
        versions=describe_versions(run.read_json("environment.json")),
        config=resolved_yaml(config),
    )


def write_report(
    config: RunConfig,
    run: RunDirectory,
    url: str | None = None,
    images: int = 72,
    metrics: dict[str, Any] | None = None,
) -> str:
    """Write a run's page to `report.html` of its directory, or to another URL, and return where it is."""
    url = url or run.url("report.html")
    storage.write_bytes(url, report_page(config, run, images, metrics).encode())
    return url


def _notes(run: RunDirectory, metrics: Mapping[str, Any]) -> list[tuple[str, Sequence[Note | str]]]:
    """What the listings noticed, by set of images, and what the evaluation did."""
    sets = dict.fromkeys(("classifier", *IMAGE_SET.values()))
    found = [(name, run.read_json("manifest", f"{name}.json") or {}) for name in sets]
    told: list[tuple[str, Sequence[Note | str]]]
    told = [(name, [Note(**note) for note in one["notes"]]) for name, one in found if one.get("notes")]
    scored: list[str] = list(metrics.get("notes", ()))
    if problems := metrics.get("problems"):
        scored.append(f"{len(problems)} masks could not be used; the first: {problems[0]}")
    return told + [("evaluation", scored)] * bool(scored)


def _class_charts(config: RunConfig, told: PassTold) -> list[Markup]:
    """Images and pixels per class, in the same order."""
    found = [key for key, _ in told.classes.most_common(_CLASSES)]
    name = config.data.class_list.name
    charts = [bars(f"Images per class, pass {told.name}", [(name(key), told.classes[key]) for key in found])]
    if whole := told.pixels.total():
        shares = [(name(key), 100 * told.pixels[key] / whole) for key in (BACKGROUND, *found)]
        if told.pixels[IGNORE]:
            shares.append(("unsure", 100 * told.pixels[IGNORE] / whole))
        label = LABEL_COLUMN[told.name].replace("_", " ")
        charts.append(bars(f"Pixels per class, {label}s", shares, 100.0, " %"))
    return charts


def _curves(run: RunDirectory) -> list[Markup]:
    result = []
    for network in NETWORKS:
        records = read_metrics(run.url("train", network))
        step = max(1, len(records) // _POINTS)
        points = [(one["step"], one["loss"]) for one in records[::step] if one.get("loss") is not None]
        if points:
            result.append(lines(f"{network}: loss by step", [("loss", points)]))
    return result
