"""Scores as tables: for a terminal and as CSV."""

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

_TOTALS = (
    "images", "threshold", "miou", "miou_low", "miou_high", "miou_published", "boundary_miou", "fp", "fn",
)  # fmt: skip
_OF_CLASS = ("iou", "boundary_iou", "precision", "recall")
_ORIGIN = ("split", "fidelity", "label_threshold", "crf", "weights")


def scored_maps(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The entries of an evaluation that are scores of a map."""
    return {name: numbers for name, numbers in metrics.items() if isinstance(numbers, dict) and "miou" in numbers}


def overview(metrics: Mapping[str, Any]) -> Table:
    """One row per map."""
    table = Table(title="Scores against ground truth", box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for head in ("map", "images", "best\nthr.", "mIoU\n%", "95 %\ninterval", "publ.\n%", "bound.\n%", "FP", "FN"):
        table.add_column(head, no_wrap=True)  # 80 columns hold them
    for name, numbers in scored_maps(metrics).items():
        level, interval = numbers.get("threshold"), numbers.get("miou_interval")
        table.add_row(
            name,
            str(numbers["images"]),
            "" if level is None else f"{level:g}",
            percent(numbers["miou"]),
            "" if interval is None else "-".join(f"{end * 100:.1f}" for end in interval),
            percent(numbers["miou_published"]),
            percent(numbers.get("boundary_miou")),
            f"{numbers['fp']:.3f}",
            f"{numbers['fn']:.3f}",
        )
    return table


def by_class(metrics: Mapping[str, Any]) -> Table:
    """IoU of each class, one column per map."""
    maps = scored_maps(metrics)
    table = Table("IoU %", *maps, box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for name in next(iter(maps.values()))["iou"]:
        table.add_row(name, *(percent(numbers["iou"][name]) for numbers in maps.values()))
    return table


def as_csv(metrics: Mapping[str, Any]) -> str:
    """All numbers: a row per map and class, and one per map whose class is empty; ratios in [0, 1].

    Each row has what its numbers were computed with: split, fidelity, threshold of the label map, CRF, weights (JSON if
    it is more than a word).
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("map", "class", *_TOTALS, *_OF_CLASS, *_ORIGIN))
    for name, numbers in scored_maps(metrics).items():
        low, high = numbers.get("miou_interval") or (None, None)
        values = {**numbers, "miou_low": low, "miou_high": high}
        origin = [_cell(value) for value in _origin(numbers["provenance"])]
        totals = [_cell(values.get(column)) for column in _TOTALS]
        table.writerow((name, "", *totals, *[""] * len(_OF_CLASS), *origin))
        settings = [totals[0], totals[1], *[""] * (len(_TOTALS) - 2)]
        for class_name in numbers["iou"]:
            ratios = [_cell(numbers.get(column, {}).get(class_name)) for column in _OF_CLASS]
            table.writerow((name, class_name, *settings, *ratios, *origin))
    return text.getvalue()


def percent(value: float | None) -> str:
    """A ratio in percent; - where there is none."""
    return "-" if value is None else f"{value * 100:.2f}"


def _origin(provenance: Mapping[str, Any]) -> list[Any]:
    return [provenance.get("threshold" if column == "label_threshold" else column) for column in _ORIGIN]


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, dict | list) else value
