"""Scores against ground truth as charts and tables."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from pfit_ray.results.report.charts import bars, lines
from pfit_ray.results.totals import NO_PREDICTION

MOST_CLASSES = 24
"""A confusion matrix shows so many classes, those with the most pixels."""

REST = "other classes"

_STRONGEST = 40.0
"""Percent of its colour that the cell of a whole row has, so that the ink stays readable."""


@dataclass(frozen=True)
class Cell:
    """A cell of a confusion matrix: its share of the row in percent, as text, and how it is coloured."""

    text: str
    style: str


@dataclass(frozen=True)
class Confusion:
    """Of the pixels of each true class, a row, the share that is labelled as each class, a column."""

    name: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, int, Sequence[Cell]]]


def score_charts(maps: Mapping[str, Any], chosen: float) -> list[Markup]:
    """Bars of mIoU, FP, FN and of the IoU per class, each with all maps side by side, and the sweep of thresholds.

    Args:
        maps: scores by map, as `evaluate_run` gives them.
        chosen: the threshold of the pseudo labels.
    """
    if not maps:
        return []
    colours = {name: number for number, name in enumerate(maps)}
    result = [
        bars("mIoU", [(name, numbers["miou"] or 0.0) for name, numbers in maps.items()], 1.0, colours=colours),
        bars("FP", [(name, numbers["fp"]) for name, numbers in maps.items()], colours=colours),
        bars("FN", [(name, numbers["fn"]) for name, numbers in maps.items()], colours=colours),
    ]
    sweeps = [
        (name, [(one["threshold"], one["miou"]) for one in numbers["sweep"] if one["miou"] is not None])
        for name, numbers in maps.items()
        if "sweep" in numbers
    ]
    if sweeps:
        marks = [("chosen for the pseudo label:", chosen)]
        result.append(lines("mIoU by background threshold", sweeps, marks, tops=True))
    for label in next(iter(maps.values()))["iou"]:
        values = [(name, numbers["iou"][label]) for name, numbers in maps.items() if numbers["iou"][label] is not None]
        if values:
            result.append(bars(f"IoU, {label}", values, 1.0, colours=colours))
    return result


def confusions(maps: Mapping[str, Any]) -> list[Confusion]:
    """Confusion matrices of all maps, the last one, which is the best finished, first."""
    return [_confusion(name, numbers) for name, numbers in reversed(list(maps.items())) if numbers.get("confusion")]


def _confusion(name: str, numbers: Mapping[str, Any]) -> Confusion:
    pixels: dict[str, dict[str, int]] = numbers["confusion"]
    size: Counter[str] = Counter()
    for true, row in pixels.items():
        size[true] += sum(row.values())
        size.update({label: count for label, count in row.items() if label != NO_PREDICTION})
    most = {label for label, _ in size.most_common(MOST_CLASSES)}
    order = [label for label in numbers["iou"] if label in most]
    rows = {label: pixels[label] for label in order if label in pixels}
    columns = list(order)
    if any(label not in most and label != NO_PREDICTION for row in rows.values() for label in row):
        columns.append(REST)
    if any(NO_PREDICTION in row for row in rows.values()):
        columns.append(NO_PREDICTION)
    return Confusion(
        name,
        columns,
        [
            (true, sum(row.values()), [_cell(true, column, _share(row, column, most)) for column in columns])
            for true, row in rows.items()
        ],
    )


def _share(row: Mapping[str, int], column: str, most: set[str]) -> float:
    if column == REST:
        count = sum(pixels for label, pixels in row.items() if label not in most and label != NO_PREDICTION)
    else:
        count = row.get(column, 0)
    return count / sum(row.values())


def _cell(true: str, column: str, share: float) -> Cell:
    if not share:
        return Cell("", "")
    colour = "accent" if column == true else "c1"
    text = f"{share * 100:.1f}" if share >= 0.0005 else "<0.1"
    style = f"background: color-mix(in srgb, var(--{colour}) {share * _STRONGEST:.0f}%, transparent)"
    return Cell(text, style)
