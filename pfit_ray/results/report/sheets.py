"""Contact sheets: which images are shown, under which headings."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from pfit_ray.config import RunConfig
from pfit_ray.results.report.gather import PassTold, Picked
from pfit_ray.results.report.thumbnails import thumbnails
from pfit_ray.rundir.directory import RunDirectory

PER_PASS = 3
"""Sheets of each pass that are not of a class: lowest and highest score, and random images."""

CLASS_SHARE = 4
"""One in so many images is on a sheet of a class."""


@dataclass
class Sheet:
    """Images under a heading: those that are shown here with their pictures, and those that another sheet shows."""

    pass_name: str
    name: str
    cards: list[tuple[Picked, list[tuple[str, str]]]] = field(default_factory=list)
    elsewhere: list[Picked] = field(default_factory=list)


def split_budget(images: int, passes: int, classes: int) -> tuple[int, int]:
    """How many images each sheet of a pass, and each sheet of a class, may hold.

    Args:
        images: all images that may be shown.
        passes: passes that have something to show.
        classes: classes that occur.
    """
    of_classes = images // CLASS_SHARE if classes else 0
    return (images - of_classes) // max(passes * PER_PASS, 1), -(-of_classes // classes) if classes else 0


def draw_sheets(config: RunConfig, run: RunDirectory, passes: Sequence[PassTold], images: int) -> list[Sheet]:
    """The contact sheets of a run: of each pass, and by class of the pseudo labels or what comes nearest to them.

    Args:
        config: the run's config.
        run: the run directory.
        passes: the passes with the images that they have picked, enough for any share of `images`.
        images: images with pictures, at most.
    """
    shown = [told for told in passes if told.ok]
    by_class = next((told for name in ("labels", "seeds", "predict") for told in shown if told.name == name), None)
    found = [key for key, _ in by_class.classes.most_common()] if by_class else []
    of_pass, of_class = split_budget(images, len(shown), len(found))
    left = images // CLASS_SHARE
    wanted: list[tuple[PassTold, str, list[Picked]]] = []
    for told in shown:
        wanted += [(told, name, picked[:of_pass]) for name, picked in told.sheets.items()]
    for key in found:
        assert by_class is not None
        picked = by_class.class_sheets[key][: min(of_class, left)]
        left -= len(picked)
        wanted.append((by_class, f"class {config.data.class_list.name(key)}", picked))
    return _drawn(config, run, [one for one in wanted if one[2]])


def _drawn(config: RunConfig, run: RunDirectory, wanted: Sequence[tuple[PassTold, str, list[Picked]]]) -> list[Sheet]:
    pictures: dict[tuple[str, Picked], list[tuple[str, str]]] = {}
    by_shard: dict[tuple[str, int], set[Picked]] = defaultdict(set)
    for told, _, picked in wanted:
        for one in picked:
            by_shard[told.name, one.shard].add(one)
    for (pass_name, shard), some in by_shard.items():
        drawn = thumbnails(config, run, pass_name, shard, sorted(some))
        pictures |= {(pass_name, one): those for one, those in drawn.items()}
    sheets, seen = [], set()
    for told, name, picked in wanted:
        sheet = Sheet(told.name, name)
        for one in picked:
            place = (told.name, one)
            if place in seen:
                sheet.elsewhere.append(one)
            else:
                seen.add(place)
                sheet.cards.append((one, pictures[place]))
        sheets.append(sheet)
    return sheets
