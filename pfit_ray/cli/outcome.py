"""The last lines of a run: what was done, what failed and why, where everything lies, and what to do next."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from pfit_ray import storage

if TYPE_CHECKING:
    from pfit_ray.runner.run import Outcome

TRANSIENT = ("timeout", "io_error", "crashed", "stuck", "out_of_memory", "error")
"""Reasons that may be gone at the next try."""

MENDABLE = (
    "unreadable", "empty_file", "missing", "denied", "bad_file", "bad_mask", "bad_regions", "bad_cam",
)  # fmt: skip
"""Reasons that are gone once a file has been mended or replaced."""

LISTED = ("unknown_class", "no_label", "bad_id")
"""Reasons that the listing gives: they are gone once labels or names have been mended and the images listed anew."""

_FEW = 4


def describe_outcome(outcome: "Outcome", config: str, overrides: Sequence[str] = ()) -> Iterator[str]:
    """The last lines of a run.

    Args:
        outcome: what it came to.
        config: the config as it stood on the command line.
        overrides: the overrides as they stood there.
    """
    run = outcome.run
    for name, (ok, failed) in outcome.counts.items():
        why = f"; {_grouped(outcome.reasons[name])}: {run.url(name, 'failures')}" if failed else ""
        yield f"pass {name}: {ok} ok + {failed} failed = {ok + failed} images{why}"
    yield f"Results: {run.root}"
    report = run.url("report.html")
    if storage.exists(report):
        sheets = run.url("sheets")
        drawn = f", contact sheets in {sheets}," if any(storage.list_files(sheets)) else ""
        yield f"Look: {report}{drawn} or {_words('pfit-ray', 'serve', run.root)}"
    yield from _next(outcome, ["pfit-ray", "run", config, *overrides])


def _next(outcome: "Outcome", command: list[str]) -> Iterator[str]:
    """What to do next, the most urgent first; see `_retries`."""
    run = outcome.run
    yield from _retries(outcome, command)
    if not storage.exists(run.url("report.html")):
        yield f"Next: {_words('pfit-ray', 'report', run.root)} writes a page of counts, scores and pictures"
    labelled = [name for name in ("labels", "predict") if outcome.counts.get(name, (0, 0))[0]]
    if not outcome.metrics and outcome.counts:
        evaluate = _words("pfit-ray", "evaluate", run.root)
        yield f"Next: {evaluate} suggests thresholds; there is no ground truth to score by"
    if labelled:
        export = _words("pfit-ray", "export", run.root, "--format", "voc", "-o", "FOLDER")
        yield f"Next: {export} for other tools (or coco, labelme, cvat, png, hf)"
    elif outcome.counts.get("seeds", (0, 0))[0]:
        kept = [word for word in command if not word.startswith("passes=")]
        yield f"Next: {_words(*kept, 'passes=[seeds,labels]')} goes on to pseudo labels"


def _retries(outcome: "Outcome", command: list[str]) -> Iterator[str]:
    """How to take up what has failed; what was skipped, or failed in an earlier pass, needs nothing of its own."""
    reasons = {reason for counts in outcome.reasons.values() for reason in counts}
    again = _words(*command, "--retry-failed")
    mendable, listed = ([reason for reason in group if reason in reasons] for group in (MENDABLE, LISTED))
    if reasons & set(TRANSIENT):
        then = f"; mend files that are {', '.join(mendable)} before" if mendable else ""
        yield f"Next: {again} tries the failed images again{then}"
    elif mendable:
        yield f"Next: mend files that are {', '.join(mendable)}, then {again}"
    if "too_large" in reasons:
        yield f"Next: raise images.max_pixels for images that are too_large, then {_words(*command, '--redo', 'seeds')}"
    if listed:
        redo = _words(*command, "--redo", "data")
        yield f"Next: mend labels or names ({', '.join(listed)}), then {redo}, which computes everything anew"


def _grouped(reasons: Mapping[str, int]) -> str:
    """Counts by reason, the most frequent first."""
    told = [f"{count} {reason}" for reason, count in reasons.items()]
    rest = sum(list(reasons.values())[_FEW:])
    return ", ".join(told[:_FEW]) + (f", {rest} others" if rest else "")


def _words(*words: str) -> str:
    return shlex.join(words)
