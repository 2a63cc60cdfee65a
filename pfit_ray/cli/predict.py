"""The command predict: a trained network on any images."""

from typing import Annotated

import typer

from pfit_ray import storage
from pfit_ray.cli.outcome import carry_out
from pfit_ray.cli.shared import AddressOption, VerboseOption, out


def predict(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A run directory with a trained network, or its .safetensors file.")
    ],
    images: Annotated[
        str, typer.Argument(metavar="IMAGES", help="Folder, URL prefix or glob of images, or of tar or Parquet files.")
    ],
    output: Annotated[str, typer.Option("--output", "-o", metavar="OUT", help="Run directory of the predictions.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Config fields to change, such as predict.scales=[1.0]."),
    ] = None,
    address: AddressOption = None,
    redo: Annotated[
        str | None, typer.Option(help="Forget a step and all that follow, then run: data or predict.")
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try only the failed images again.")] = False,
    verbose: VerboseOption = False,
) -> None:
    """Segment images with a trained network; no config is needed.

    The predictions are PNGs in OUT/predict, in shards. After a crash or a Ctrl-C the same command continues.
    """
    from pfit_ray.runner.progress import Progress
    from pfit_ray.runner.run import Runner
    from pfit_ray.runner.segmenter import segmenter_config

    config = segmenter_config(model, images, output, overrides or ())
    storage.configure(config.storage)
    command = ["pfit-ray", "predict", model, images, *(overrides or ()), "-o", output]
    carry_out(Runner(config, Progress(out), retry_failed), command, address, verbose, redo)
