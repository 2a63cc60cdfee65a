"""The report of a run: one HTML page that needs no network."""

from collections import defaultdict
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pfit_ray import storage
from pfit_ray.config import PASSES, RunConfig, resolved_yaml
from pfit_ray.layout import NETWORKS, RunDirectory
from pfit_ray.provenance import describe, describe_versions
from pfit_ray.report.charts import bars, flow, histogram, lines
from pfit_ray.report.gather import PassTold, Picked, gather_pass
from pfit_ray.report.pictures import thumbnails
from pfit_ray.schema import REASONS
from pfit_ray.train.curves import read_metrics

MAX_IMAGES = 200
_SHEETS = 3
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
    share = min(images, MAX_IMAGES) // (len(PASSES) * _SHEETS)
    passes = [told for name in PASSES if (told := gather_pass(run, name, config.seed, share))]
    if metrics is None:
        metrics = run.read_json("evaluation.json") or {}
    maps = {name: numbers for name, numbers in metrics.items() if isinstance(numbers, dict) and "miou" in numbers}
    environment = Environment(
        loader=PackageLoader("pfit_ray.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html.j2").render(
        root=run.root,
        passes=passes,
        flows={told.name: flow(told.name, told.stages) for told in passes if told.stages},
        reasons=REASONS,
        class_charts=[_class_chart(config, told) for told in passes if told.ok],
        histograms=[
            histogram(f"{told.name}: {name}", counts)
            for told in passes
            if told.ok
            for name, counts in told.histograms.items()
        ],
        maps=maps,
        score_charts=_score_charts(config, maps),
        curves=_curves(run),
        sheets=_sheets(config, run, passes),
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


def _class_chart(config: RunConfig, told: PassTold) -> Markup:
    found = told.classes.most_common(_CLASSES)
    return bars(
        f"Images per class, pass {told.name}", [(config.data.class_list.name(key), count) for key, count in found]
    )


def _score_charts(config: RunConfig, maps: dict[str, Any]) -> list[Markup]:
    if not maps:
        return []
    result = [
        bars("mIoU", [(name, numbers["miou"] or 0.0) for name, numbers in maps.items()], 1.0),
        bars("FP", [(name, numbers["fp"]) for name, numbers in maps.items()]),
        bars("FN", [(name, numbers["fn"]) for name, numbers in maps.items()]),
    ]
    sweeps = [
        (name, [(one["threshold"], one["miou"]) for one in numbers["sweep"] if one["miou"] is not None])
        for name, numbers in maps.items()
        if "sweep" in numbers
    ]
    if sweeps:
        marks = [("chosen", config.pseudo_label.threshold)]
        result.append(lines("mIoU by background threshold", sweeps, marks))
    for label in next(iter(maps.values()))["iou"]:
        values = [(name, numbers["iou"][label]) for name, numbers in maps.items() if numbers["iou"][label] is not None]
        if values:
            result.append(bars(f"IoU, {label}", values, 1.0))
    return result


def _curves(run: RunDirectory) -> list[Markup]:
    result = []
    for network in NETWORKS:
        records = read_metrics(run.url("train", network))
        step = max(1, len(records) // _POINTS)
        points = [(one["step"], one["loss"]) for one in records[::step] if one.get("loss") is not None]
        if points:
            result.append(lines(f"{network}: loss by step", [("loss", points)]))
    return result


def _sheets(config: RunConfig, run: RunDirectory, passes: list[PassTold]) -> list[dict[str, Any]]:
    result = []
    for told in passes:
        sheet_of: dict[Picked, str] = {}
        by_shard: dict[int, list[Picked]] = defaultdict(list)
        for sheet, picked in told.sheets.items():
            for one in picked:
                if one not in sheet_of:  # an image stands on one sheet
                    sheet_of[one] = sheet
                    by_shard[one.shard].append(one)
        pictures: dict[Picked, list[tuple[str, str]]] = {}
        for shard, some in by_shard.items():
            pictures |= thumbnails(config, run, told.name, shard, some)
        for sheet in told.sheets:
            cards = [(one, pictures[one]) for one, name in sheet_of.items() if name == sheet]
            if cards:
                result.append({"pass": told.name, "name": sheet, "cards": cards})
    return result
