"""Contact sheets: which images are shown, under which headings."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from pfit_ray.config import RunConfig
from pfit_ray.results.report.gather import PassTold, Picked, pick
from pfit_ray.results.report.thumbnails import thumbnails
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.storage.threads import prefetch

PER_PASS = 3
"""Sheets of each pass that are not of a class: lowest and highest score, and random images."""

CLASS_SHARE = 4
"""One in so many images is on a sheet of a class."""

_READERS = 4
"""Shards whose pictures are drawn at the same time."""


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
        passes: the passes with the images that were drawn, enough for any share of `images`.
        images: images with pictures, at most.
    """
    shown = [told for told in passes if told.ok]
    by_class = next((told for name in ("labels", "seeds", "predict") for told in shown if told.name == name), None)
    found = [key for key, _ in by_class.classes.most_common()] if by_class else []
    of_pass, of_class = split_budget(images, len(shown), len(found))
    left = images // CLASS_SHARE
    class_counts: dict[int, int] = {}
    for key in found:
        assert by_class is not None
        class_counts[key] = min(of_class, left, by_class.classes[key])
        left -= class_counts[key]
    wanted: list[tuple[PassTold, str, list[Picked]]] = []
    of_classes: dict[int, list[Picked]] = {}
    for told in shown:
        sheets, some = pick(run, told, of_pass, class_counts if told is by_class else {})
        of_classes |= some
        wanted += [(told, name, picked) for name, picked in sheets.items()]
    if by_class is not None:
        wanted += [(by_class, f"class {config.data.class_list.name(key)}", of_classes[key]) for key in found]
    return _drawn(config, run, [one for one in wanted if one[2]])


def _drawn(config: RunConfig, run: RunDirectory, wanted: Sequence[tuple[PassTold, str, list[Picked]]]) -> list[Sheet]:
    pictures: dict[tuple[str, Picked], list[tuple[str, str]]] = {}
    by_shard: dict[tuple[str, int], set[Picked]] = defaultdict(set)
    for told, _, picked in wanted:
        for one in picked:
            by_shard[told.name, one.shard].add(one)

    def drawn(place: tuple[str, int]) -> dict[Picked, list[tuple[str, str]]]:
        return thumbnails(config, run, *place, sorted(by_shard[place]))

    for (pass_name, _), those in zip(by_shard, prefetch(drawn, by_shard, _READERS, _READERS), strict=True):
        pictures |= {(pass_name, one): some for one, some in those.items()}
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
