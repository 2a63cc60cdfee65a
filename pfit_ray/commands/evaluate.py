"""The command evaluate: scores against ground truth."""

from rich.table import Table

from pfit_ray.commands.shared import AddressOption, RunArgument, VerboseOption, open_run, out
from pfit_ray.errors import UserError
from pfit_ray.layout import RunDirectory
from pfit_ray.provenance import describe, describe_versions


def evaluate(run: RunArgument, address: AddressOption = None, verbose: VerboseOption = False) -> None:
    """Score a run's maps, pseudo labels and predictions against ground truth."""
    directory, config = open_run(run)

    from pfit_ray.evaluation import evaluate_run
    from pfit_ray.session import ray_session

    with ray_session(address, config.resources, verbose):
        metrics = evaluate_run(config, directory)
    directory.write_json(metrics, "evaluation.json")
    if not metrics:
        raise UserError(f"evaluate: no image of {directory.root} has ground truth; set data.masks, or use source voc")
    print_scores(directory, metrics)


def print_scores(run: RunDirectory, metrics: dict[str, object]) -> None:
    """Print scores as a table, and below it what each was computed with."""
    table = Table(
        "map", "images", "threshold", "mIoU %", "published %", "FP", "FN", title="Scores against ground truth"
    )
    for name, numbers in metrics.items():
        if isinstance(numbers, dict):
            level = numbers.get("threshold")
            table.add_row(
                name,
                str(numbers["images"]),
                "" if level is None else f"{level:g} (best)",
                _percent(numbers["miou"]),
                _percent(numbers["miou_published"]),
                f"{numbers['fp']:.3f}",
                f"{numbers['fn']:.3f}",
            )
    out.print(table)
    out.print("mIoU over background and the classes that occur; published: absent classes count as 0", soft_wrap=True)
    for name, numbers in metrics.items():
        if isinstance(numbers, dict):
            out.print(describe(name, numbers["provenance"]), soft_wrap=True)
    out.print(describe_versions(run.read_json("environment.json")), soft_wrap=True)
    problems = metrics.get("problems")
    if isinstance(problems, list):
        out.print(f"{len(problems)} masks could not be used; the first: {problems[0]}", soft_wrap=True)


def _percent(value: object) -> str:
    return "-" if value is None else f"{float(str(value)) * 100:.2f}"
