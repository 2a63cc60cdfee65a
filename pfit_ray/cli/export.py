"""The command export: labels in the formats that other tools read."""

from typing import Annotated, Literal

import typer

from pfit_ray.cli.shared import RunArgument, out
from pfit_ray.rundir.directory import open_run


def export(
    run: RunArgument,
    output: Annotated[
        str, typer.Option("--output", "-o", help="A new folder, or a URL in a bucket.", show_default=False)
    ],
    format_name: Annotated[
        Literal["voc", "coco", "labelme", "cvat", "png", "hf"],
        typer.Option("--format", help="Whose format; hf is Parquet for Hugging Face datasets.", show_default=False),
    ],
    labels: Annotated[
        Literal["pseudo_label", "prediction"] | None,
        typer.Option(help="Which map; by default the pseudo labels, or the predictions where there are no others."),
    ] = None,
    images: Annotated[
        Literal["copy", "link", "none"],
        typer.Option(help="Copy the photographs, link to them where they are files of this machine, or leave them."),
    ] = "copy",
    split: Annotated[str, typer.Option(help="What the set of images is called in the export.")] = "train",
    license_name: Annotated[
        str | None, typer.Option("--license", help="The licence that the export's card states, such as cc-by-4.0.")
    ] = None,
) -> None:
    """Write photographs and label maps of a run in the format of another tool, with a card."""
    directory, config = open_run(run)

    from pfit_ray.results.export import ExportOptions, export_run

    options = ExportOptions(format_name, labels, split, images, license_name)
    done = export_run(config, directory, output, options)
    out.print(f"{done.kind}: {done.exported} images exported as {format_name}", soft_wrap=True)
    if done.failed:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(done.failed.items()))
        out.print(f"left out, failed: {reasons}", soft_wrap=True)
    if done.unfinished:
        out.print(f"left out, not finished: {done.unfinished}; run again, then export into a new folder")
    for problem in done.problems:
        out.print(f"  {problem}", soft_wrap=True)
    out.print(f"Export: {done.root}", soft_wrap=True)
