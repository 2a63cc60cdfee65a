"""Charts as inline SVG that takes its colours from the page, so that it follows light and dark."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

WIDTH = 340
"""Natural width of a chart: that of a phone, so that its letters stay readable there."""
_ROW = 20
_HEIGHT = 170
_LEGEND = 18
_COLOURS = 5


def bars(
    title: str,
    values: Sequence[tuple[str, float]],
    top: float | None = None,
    unit: str = "",
    colours: Mapping[str, int] | None = None,
) -> Markup:
    """Horizontal bars.

    Args:
        title: what is shown; screen readers read it with the values.
        values: names and numbers, not negative.
        top: the number of a full bar; None: the largest.
        unit: follows each number.
        colours: by name the number of its colour, so that a name looks the same in all charts; None: all look alike.
    """
    full = top or max((value for _, value in values), default=1.0) or 1.0
    parts = []
    for index, (name, value) in enumerate(values):
        y = index * _ROW
        parts.append(Markup('<text x="0" y="{}">{}</text>').format(y + 14, name if len(name) < 17 else name[:15] + "…"))
        width = round(150 * min(value / full, 1.0), 1)
        colour = (colours or {}).get(name, 0) % _COLOURS
        parts.append(
            Markup('<rect class="bar c{}" x="125" y="{}" width="{}" height="13"/>').format(colour, y + 3, width)
        )
        parts.append(Markup('<text x="{}" y="{}">{}</text>').format(129 + width, y + 14, f"{value:.4g}{unit}"))
    told = ", ".join(f"{name} {value:.4g}{unit}" for name, value in values)
    return _svg(title, f"{title}: {told}", len(values) * _ROW + 4, parts)


def flow(title: str, stages: Mapping[str, Mapping[str, float]]) -> Markup:
    """The stages of a pass from top to bottom; what is filled of a box is its share of the pass's seconds.

    Args:
        title: name of the pass.
        stages: per stage `images` and `seconds`, in their order.
    """
    whole = sum(timing["seconds"] for timing in stages.values()) or 1.0
    parts = []
    for index, (name, timing) in enumerate(stages.items()):
        y = index * 44
        share = round((WIDTH - 2) * timing["seconds"] / whole, 1)
        if index:
            parts.append(Markup('<path class="arrow" d="M170 {}v10m-4 -5l4 5l4 -5"/>').format(y - 11))
        parts.append(Markup('<rect class="box" x="1" y="{}" width="{}" height="32" rx="5"/>').format(y, WIDTH - 2))
        parts.append(Markup('<rect class="share" x="1" y="{}" width="{}" height="4"/>').format(y + 28, share))
        told = f"{int(timing['images'])} images, {timing['seconds']:.2f} s"
        parts.append(Markup('<text x="10" y="{}">{}</text>').format(y + 19, name))
        parts.append(Markup('<text x="330" y="{}" text-anchor="end">{}</text>').format(y + 19, told))
    told = ", ".join(f"{name} {timing['seconds']:.2f} s" for name, timing in stages.items())
    return _svg(f"Pass {title}", f"stages of pass {title}: {told}", len(stages) * 44, parts)


def histogram(title: str, counts: Sequence[int]) -> Markup:
    """Counts of equal bins over [0, 1]."""
    top = max(counts, default=0) or 1
    width = (WIDTH - 20) / max(len(counts), 1)
    parts = []
    for index, count in enumerate(counts):
        height = round(130 * count / top, 1)
        box = Markup('<rect class="bar" x="{}" y="{}" width="{}" height="{}"/>')
        parts.append(box.format(round(10 + index * width, 1), 140 - height, round(width - 1, 1), height))
    for x, text in ((10, "0"), (WIDTH // 2 - 8, "0.5"), (WIDTH - 16, "1")):
        parts.append(Markup('<text x="{}" y="158">{}</text>').format(x, text))
    return _svg(title, f"{title}: images in {len(counts)} bins from 0 to 1: {', '.join(map(str, counts))}", 164, parts)


def lines(
    title: str,
    series: Sequence[tuple[str, Sequence[tuple[float, float]]]],
    marks: Sequence[tuple[str, float]] = (),
    tops: bool = False,
) -> Markup:
    """Lines over one axis, named below it.

    Args:
        title: what is shown.
        series: names and their points (x, y); those without points are left out.
        marks: names and places on the x axis of dashed vertical lines.
        tops: whether the highest point of each line is marked and named as the best one.
    """
    series = [(name, points) for name, points in series if points]
    xs = [x for _, points in series for x, _ in points] + [x for _, x in marks]
    ys = [y for _, points in series for _, y in points]
    if not ys:
        return Markup("")
    left, right, low, high = min(xs), max(xs), min(ys), max(ys)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - left) / ((right - left) or 1.0)
        up = (y - low) / ((high - low) or 1.0)
        return round(45 + across * (WIDTH - 60), 1), round(140 - up * 130, 1)

    parts = [
        Markup('<text x="0" y="140">{}</text><text x="0" y="18">{}</text>').format(f"{low:.3g}", f"{high:.3g}"),
        Markup('<text x="45" y="158">{}</text><text x="{}" y="158">{}</text>').format(
            f"{left:.4g}", WIDTH - 45, f"{right:.4g}"
        ),
    ]
    told = []
    for index, (name, points) in enumerate(series):
        colour = index % _COLOURS
        path = "M" + "L".join(f"{x} {y}" for x, y in (place(*point) for point in points))
        parts.append(Markup('<path class="line c{}" d="{}"/>').format(colour, path))
        told.append(f"{name} from {points[0][1]:.4g} to {points[-1][1]:.4g}")
        if tops:
            best = max(points, key=lambda point: point[1])
            at = place(*best)
            parts.append(Markup('<circle class="dot c{}" cx="{}" cy="{}" r="4"/>').format(colour, *at))
            name = f"{name}: best at {best[0]:g}, {best[1]:.4g}"
            told[-1] = name
        y = _HEIGHT + index * _LEGEND
        swatch = Markup('<rect class="c{}" x="0" y="{}" width="14" height="4"/>').format(colour, y + 5)
        parts.append(swatch + Markup('<text x="20" y="{}">{}</text>').format(y + 11, name))
    for index, (name, x) in enumerate(marks, start=len(series)):
        at, y = place(x, low), _HEIGHT + index * _LEGEND
        parts.append(Markup('<path class="mark" d="M{} 10V140M0 {}h14"/>').format(at[0], y + 7))
        parts.append(Markup('<text x="20" y="{}">{}</text>').format(y + 11, f"{name} {x:g}"))
        told.append(f"{name} {x:g}")
    return _svg(title, f"{title}: {'; '.join(told)}", _HEIGHT + _LEGEND * (len(series) + len(marks)), parts)


def _svg(title: str, told: str, height: int, parts: Sequence[Markup]) -> Markup:
    head = Markup('<svg class="chart" role="img" aria-label="{}" viewBox="0 0 {} {}">').format(told, WIDTH, height)
    return Markup("<figure><figcaption>{}</figcaption>{}{}</svg></figure>").format(
        escape(title), head, Markup("").join(parts)
    )
