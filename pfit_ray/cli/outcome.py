"""The last lines of a run: what was done, what failed and why, where the results are, and what to do next."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import typer

from pfit_ray import storage
from pfit_ray.cli.evaluate import print_scores
from pfit_ray.cli.shared import EXIT_INTERRUPTED, EXIT_TERMINATED, err, out
from pfit_ray.errors import UserError

if TYPE_CHECKING:
    from pfit_ray.runner.run import Outcome, Runner

TRANSIENT = ("timeout", "io_error", "crashed", "stuck", "out_of_memory", "error")
"""Reasons that another try may clear."""

MENDABLE = (
    "unreadable", "empty_file", "missing", "denied", "bad_file", "bad_mask", "bad_regions", "bad_cam",
)  # fmt: skip
"""Reasons that a repaired or replaced file clears."""

LISTED = ("unknown_class", "no_label", "bad_id")
"""Reasons that the listing gives: corrected labels or names and a new listing clear them."""

_FEW = 4


def carry_out(
    runner: "Runner", command: Sequence[str], address: str | None, verbose: bool, redo: str | None = None
) -> None:
    """Run a runner, and print the result.

    Args:
        runner: what runs.
        command: the words of the command line that continues it.
        address: Ray cluster to join.
        verbose: keep Ray's messages.
        redo: the step to forget first.

    Raises:
        UserError: when there is no such step.
        typer.Exit: when a signal ends the work.
    """
    from pfit_ray.runner.fingerprint import REDO_FROM
    from pfit_ray.storage.signals import Terminated

    if redo is not None:
        if redo not in REDO_FROM:
            raise UserError(f"--redo {redo}: no such step; choose from {', '.join(REDO_FROM)}")
        runner.forget(redo)
    try:
        outcome = runner.run(address, verbose)
    except KeyboardInterrupt as stop:  # typer would leave without a word
        terminated = isinstance(stop, Terminated)
        word = "Terminated" if terminated else "Interrupted"
        text = f"{word}. Finished shards and epochs are kept: the same command continues from there."
        err.print(text, soft_wrap=True)
        raise typer.Exit(EXIT_TERMINATED if terminated else EXIT_INTERRUPTED) from None
    if not outcome.worked:
        text = f"Nothing to do: {outcome.run.root} is finished. Use --redo STEP to compute a step again."
        out.print(text, soft_wrap=True)
    if outcome.metrics:
        print_scores(outcome.run, outcome.metrics)
    for line in describe_outcome(outcome, command):
        out.print(line, soft_wrap=True)


def describe_outcome(outcome: "Outcome", command: Sequence[str]) -> Iterator[str]:
    """The last lines of a run.

    Args:
        outcome: its result.
        command: the words of the command line that continues it.
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
    yield from _next(outcome, list(command))


def _next(outcome: "Outcome", command: list[str]) -> Iterator[str]:
    """What to do next, the most urgent first; see `_retries`."""
    run = outcome.run
    yield from _retries(outcome, command)
    if not storage.exists(run.url("report.html")):
        yield f"Next: {_words('pfit-ray', 'report', run.root)} writes one page of counts, scores and pictures"
    labelled = [name for name in ("labels", "predict") if outcome.counts.get(name, (0, 0))[0]]
    if not outcome.metrics and outcome.counts.keys() & {"seeds", "labels"}:  # whose maps have thresholds
        evaluate = _words("pfit-ray", "evaluate", run.root)
        yield f"Next: {evaluate} suggests thresholds, because there is no ground truth"
    if labelled:
        export = _words("pfit-ray", "export", run.root, "--format", "voc", "-o", "FOLDER")
        yield f"Next: {export} for other tools (or coco, yolo, fiftyone, labelme, cvat, png, hf)"
        if len(labelled) == 2:
            other = _words("pfit-ray", "predict", run.root, "IMAGES", "-o", "OUT")
            yield f"Next: {other} labels other images with the trained network; pfit-ray export-model writes it as ONNX"
    elif outcome.counts.get("seeds", (0, 0))[0]:
        kept = [word for word in command if not word.startswith("passes=")]
        yield f"Next: {_words(*kept, 'passes=[seeds,labels]')} continues to pseudo labels"


def _retries(outcome: "Outcome", command: list[str]) -> Iterator[str]:
    """How to try failed images again; skipped images and those of earlier passes need nothing of their own."""
    reasons = {reason for counts in outcome.reasons.values() for reason in counts}
    again = _words(*command, "--retry-failed")
    mendable, listed = ([reason for reason in group if reason in reasons] for group in (MENDABLE, LISTED))
    if reasons & set(TRANSIENT):
        then = f"; first repair files that are {', '.join(mendable)}" if mendable else ""
        yield f"Next: {again} tries the failed images again{then}"
    elif mendable:
        yield f"Next: repair files that are {', '.join(mendable)}, then {again}"
    if "too_large" in reasons:
        yield f"Next: raise images.max_pixels for images that are too_large, then {_words(*command, '--redo', 'seeds')}"
    if listed:
        redo = _words(*command, "--redo", "data")
        yield f"Next: correct labels or names ({', '.join(listed)}), then {redo}, which computes everything again"


def _grouped(reasons: Mapping[str, int]) -> str:
    """Counts by reason, the most frequent first."""
    told = [f"{count} {reason}" for reason, count in reasons.items()]
    rest = sum(list(reasons.values())[_FEW:])
    return ", ".join(told[:_FEW]) + (f", {rest} others" if rest else "")


def _words(*words: str) -> str:
    return shlex.join(words)
