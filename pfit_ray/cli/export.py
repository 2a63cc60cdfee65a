"""The commands export (labels for other tools), export-model (a network as ONNX) and serve (the explorer)."""

from typing import Annotated, Literal

import typer

from pfit_ray.cli.shared import RunArgument, out
from pfit_ray.errors import UserError
from pfit_ray.rundir.directory import open_run


def export(
    run: RunArgument,
    output: Annotated[
        str, typer.Option("--output", "-o", help="A new folder, or a URL in a bucket.", show_default=False)
    ],
    format_name: Annotated[
        Literal["voc", "coco", "labelme", "cvat", "png", "hf", "yolo", "fiftyone"],
        typer.Option("--format", help="The format; hf is Parquet for Hugging Face datasets.", show_default=False),
    ],
    labels: Annotated[
        Literal["pseudo_label", "prediction"] | None,
        typer.Option(help="Which labels; by default the pseudo labels, or the predictions if there are no others."),
    ] = None,
    images: Annotated[
        Literal["copy", "link", "none"],
        typer.Option(help="Copy the images, link to those that are files on this machine, or leave them out."),
    ] = "copy",
    split: Annotated[str, typer.Option(help="Name of the split in the export.")] = "train",
    polygons: Annotated[bool, typer.Option("--polygons", help="Of coco: polygons in place of run lengths.")] = False,
    license_name: Annotated[
        str | None, typer.Option("--license", help="The licence on the card, such as cc-by-4.0.")
    ] = None,
) -> None:
    """Write images and label maps of a run in another tool's format, with a card."""
    directory, config = open_run(run)

    from pfit_ray.results.export import ExportOptions, export_run

    options = ExportOptions(format_name, labels, split, images, license_name, polygons)
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


def export_model(
    model: Annotated[
        str, typer.Argument(metavar="RUN", help="A run directory with a trained network, or its .safetensors file.")
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", help="The .onnx file to write, a path or a URL.", show_default=False)
    ],
    network: Annotated[Literal["deeplab", "classifier"], typer.Option(help="Which network of the run.")] = "deeplab",
) -> None:
    """Write a trained network as ONNX, once onnxruntime gives the same labels as torch.

    The input is uint8 RGB (B, H, W, 3) of any size; the normalisation is in the graph, class names in the metadata.
    """
    from pfit_ray.results.export_model import export_model as export_network

    out.print(export_network(model, output, network), soft_wrap=True)


def serve(
    run: RunArgument,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in, unencrypted.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 8765,
) -> None:
    """Show a run's images in a browser: filter, sort, see every stage, accept or reject.

    Open the link that it prints. It writes only your review, below review/ of the run.
    """
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError("serve: the explorer needs starlette and uvicorn; pip install 'pfit-ray[explorer]'") from error
    directory, config = open_run(run)

    from pfit_ray.results.explorer.server import serve as serve_run

    try:
        serve_run(config, directory, host, port, lambda text: out.print(text, soft_wrap=True))
    except KeyboardInterrupt:
        out.print("Stopped.")
