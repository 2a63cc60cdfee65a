"""The command evaluate: scores against ground truth."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

import typer

from pfit_ray import storage
from pfit_ray.cli.shared import AddressOption, VerboseOption, err, out
from pfit_ray.constants import VOC_CLASSES
from pfit_ray.errors import UserError
from pfit_ray.rundir.directory import RunDirectory, open_run
from pfit_ray.rundir.provenance import describe, describe_versions

Format = Literal["table", "json", "csv"]


def evaluate(
    what: Annotated[
        str,
        typer.Argument(
            metavar="RUN|LABELS",
            help="A run directory. With --truth: label maps made elsewhere, a folder of PNGs, of PNG shards (.tar), "
            "or of class maps (.npz with the arrays keys and cam).",
            show_default=False,
        ),
    ],
    truth: Annotated[
        str | None, typer.Option(help="The ground truth: a folder of PNGs, or a VOC folder. Scores LABELS.")
    ] = None,
    classes: Annotated[
        str, typer.Option(help="With --truth: names of the class ids 1, 2, ... of the label maps; voc: VOC's 20.")
    ] = "voc",
    names: Annotated[
        str | None,
        typer.Option("--list", help="With --truth: the images to score, a list of the VOC folder or a text file."),
    ] = None,
    truth_ids: Annotated[
        Literal["same", "voc"],
        typer.Option(
            help="With --truth: same if the ground truth has the class ids of --classes, voc if it has VOC's."
        ),
    ] = "same",
    keys_from: Annotated[
        int | None,
        typer.Option(
            min=0, max=1, help="With --truth: key of the first class in class maps, if the files do not say it."
        ),
    ] = None,
    format_name: Annotated[
        Format, typer.Option("--format", help="A table to read, or every number as JSON or CSV.")
    ] = "table",
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Write JSON or CSV to this path or URL.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="With --truth: seed of the 95 % interval.")] = 0,
    address: AddressOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Score a run's maps, pseudo labels and predictions, or any label maps, against ground truth.

    For a run without ground truth, suggest a threshold for its CAMs.
    """
    if output is not None and format_name == "table":
        raise UserError("evaluate: --output needs --format json or --format csv")
    if truth is not None:
        metrics = _evaluate_files(what, truth, classes, names, truth_ids, keys_from, seed)
        _tell(metrics, None, format_name, output)
        return
    directory, config = open_run(what)

    from pfit_ray.cluster.session import ray_session
    from pfit_ray.results.thresholds import suggested_thresholds
    from pfit_ray.runner.progress import Progress
    from pfit_ray.runner.scoring_step import evaluate_run

    with ray_session(address, config.resources, verbose):
        metrics = evaluate_run(config, directory, Progress(err))
    directory.write_json(metrics, "evaluation.json")
    if metrics:
        _tell(metrics, directory, format_name, output)
        return
    missing = f"no image of {directory.root} has ground truth; set data.masks, or use source voc"
    suggested = suggested_thresholds(directory)
    if not suggested:
        raise UserError(f"evaluate: {missing}")
    err.print(f"evaluate: {missing}", soft_wrap=True)
    if format_name == "json":
        _put(json.dumps({"suggested": suggested}, indent=1) + "\n", output)
        return
    for name, found in suggested.items():
        text = f"{name}: the maps of {found['images']} images suggest the threshold {found['threshold']:g}"
        out.print(f"{text} (mean of Otsu's and of Li's)", soft_wrap=True)


def print_scores(run: RunDirectory | None, metrics: Mapping[str, Any]) -> None:
    """Print scores as tables, and below them what each was computed with.

    Args:
        run: the run that was scored; None for label maps made elsewhere.
        metrics: as `pfit_ray.runner.scoring_step.evaluate_run` makes them.
    """
    from pfit_ray.results.score_tables import by_class, overview, scored_maps

    maps = scored_maps(metrics)
    if maps:
        out.print(overview(metrics))
        out.print(
            "mIoU over background and the classes that occur; publ.: absent classes count as 0, as published; "
            "interval: bootstrap over the images; bound.: Boundary IoU, borders alone",
            soft_wrap=True,
        )
        out.print(by_class(metrics))
    for name, numbers in maps.items():
        origin = numbers["provenance"]
        if "labels" in origin:
            files = f"label maps {origin['labels']}; ground truth {origin['truth']}"
            text = f"{name}: split {origin['split']}; {files}; how they were made is not recorded"
            out.print(text, soft_wrap=True)
        else:
            out.print(describe(name, origin), soft_wrap=True)
    if run is not None:
        out.print(describe_versions(run.read_json("environment.json")), soft_wrap=True)
    if metrics.get("without_truth"):
        out.print(f"{metrics['without_truth']} label maps have no ground truth and are not counted", soft_wrap=True)
    for note in metrics.get("notes", ()):
        out.print(note, soft_wrap=True)
    problems = metrics.get("problems")
    if problems:
        out.print(f"{len(problems)} masks could not be used; the first: {problems[0]}", soft_wrap=True)


def _evaluate_files(
    labels: str,
    truth: str,
    classes: str,
    names: str | None,
    truth_ids: Literal["same", "voc"],
    keys_from: int | None,
    seed: int,
) -> dict[str, Any]:
    from pfit_ray.results.evaluate_files import FilesRequest, evaluate_files

    own = VOC_CLASSES if classes == "voc" else tuple(name.strip() for name in classes.split(","))
    return evaluate_files(FilesRequest(labels, truth, own, names, truth_ids, keys_from=cast(Any, keys_from), seed=seed))


def _tell(metrics: Mapping[str, Any], run: RunDirectory | None, format_name: Format, output: str | None) -> None:
    from pfit_ray.results.score_tables import as_csv

    if format_name == "table":
        print_scores(run, metrics)
    else:
        _put(json.dumps(metrics, indent=1) + "\n" if format_name == "json" else as_csv(metrics), output)


def _put(text: str, output: str | None) -> None:
    if output is None:
        typer.echo(text, nl=False)
    else:
        storage.write_bytes(output, text.encode())
