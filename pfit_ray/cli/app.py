"""The command line; evaluate, export and serve have files of their own."""

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from pfit_ray import __version__, storage
from pfit_ray.cli.evaluate import evaluate
from pfit_ray.cli.export import export, export_model, serve
from pfit_ray.cli.outcome import carry_out
from pfit_ray.cli.shared import AddressOption, RunArgument, VerboseOption, err, out
from pfit_ray.config import RunConfig, load_config
from pfit_ray.config.credentials import redacted
from pfit_ray.errors import UserError
from pfit_ray.rundir.directory import open_run
from pfit_ray.storage.drivers import quiet_drivers

EXIT_FAILED = 1
EXIT_MISTAKE = 2

app = typer.Typer(
    name="pfit-ray",
    help="Turn image-level labels into pixel labels, and train a segmentation network on them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigArgument = Annotated[str, typer.Argument(help="The run's YAML file, a path or a URL.", show_default=False)]
OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="Config fields to change, such as data.root=photos or cam.flip=false.",
        show_default=False,
    ),
]
RetryOption = Annotated[bool, typer.Option("--retry-failed", help="Try only the failed images again.")]


@app.command()
def run(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    address: AddressOption = None,
    redo: Annotated[
        str | None,
        typer.Option(
            help="Compute a step and all later ones again: data, classifier, seeds, affinitynet, labels, deeplab "
            "or predict.",
        ),
    ] = None,
    retry_failed: RetryOption = False,
    force: Annotated[
        bool, typer.Option("--force", help="Take the output over from another run that is certainly gone.")
    ] = False,
    verbose: VerboseOption = False,
) -> None:
    """Run a config, from images to labels, networks and scores.

    Finished work is not done again: after a crash or Ctrl-C, the same command continues where it stopped.
    Results go to the config's output, for each pass a folder of Parquet tables and PNG shards.
    """
    loaded = _load(config, overrides)  # before the slow imports: a mistake is told at once

    from pfit_ray.runner.progress import Progress
    from pfit_ray.runner.run import Runner

    runner = Runner(loaded, Progress(out), retry_failed, force)
    carry_out(runner, ["pfit-ray", "run", config, *(overrides or [])], address, verbose, redo)


@app.command()
def plan(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    address: AddressOption = None,
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Take some images through the passes on this machine, for half a minute."),
    ] = False,
) -> None:
    """Show what a run would do, how far it is, and what it takes: hours, and money with resources.prices.

    This changes nothing in the run directory.
    """
    loaded = _load(config, overrides)

    from pfit_ray.runner.plan import describe_plan

    for line in describe_plan(loaded, address, measure):
        out.print(line, soft_wrap=True)


@app.command()
def init(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Folder or URL prefix with the images.")],
    classes: Annotated[
        str | None,
        typer.Option(help="Class names, separated by commas, where the folder does not tell them: cat,dog."),
    ] = None,
    config: Annotated[
        str | None, typer.Option("--config", "-c", help="File to write; by default FOLDER's name with .yaml.")
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Run directory; by default runs/ and FOLDER's name.")
    ] = None,
) -> None:
    """Look at a folder of images, and write a config for it.

    It finds a folder per class, a label table, VOC, COCO, tar and Parquet files, or images without labels.
    """
    from pfit_ray.data.sources.detect import detect
    from pfit_ray.runner.starter import Machine, starter_config

    name = folder.rstrip("/").rpartition("/")[2] or "images"
    file = Path(config or f"{name}.yaml")
    if file.exists():
        raise UserError(f"init: {file} exists; remove it, or name another file by --config")
    found = detect(folder)
    names = [one.strip() for one in (classes or "").split(",") if one.strip()]
    text = starter_config(found, folder, names, output or f"runs/{name}", Machine.this())
    load_config(str(file), read=lambda _: text.encode())
    with file.open("x", encoding="utf-8") as written:
        written.write(text)
    for line in found.told:
        out.print(f"Found {line}.", soft_wrap=True)
    out.print(f"Wrote {file}. Next: pfit-ray plan {file}, then pfit-ray run {file}", soft_wrap=True)


@app.command()
def predict(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A run directory with a trained network, or its .safetensors or .onnx file."
        ),
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
    redo: Annotated[str | None, typer.Option(help="Compute a step and all later ones again: data or predict.")] = None,
    retry_failed: RetryOption = False,
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


@app.command()
def classes(
    word: Annotated[str, typer.Argument(metavar="WORD", help="A word, such as cat, or a WordNet id.")],
) -> None:
    """List the ImageNet classes whose name has a word, for classifier.zero_shot."""
    from pfit_ray.nets.imagenet import search_classes

    group, found = search_classes(word)
    if not group and not found:
        raise UserError(f"classes: no ImageNet class contains the word {word!r}; try another or a more general word")
    if group:
        out.print(f"{word} stands for {len(group)} ImageNet class(es): {', '.join(map(str, group))}", soft_wrap=True)
    for one in found:
        out.print(f"{one}: {one.definition}", soft_wrap=True)


@app.command()
def status(run: RunArgument) -> None:
    """Show how far a run is: images done and failed per pass, rate, and reasons of failures."""
    from pfit_ray.results.status import describe_status

    directory, _ = open_run(run)
    for line in describe_status(directory):
        out.print(line, soft_wrap=True)


app.command()(evaluate)
app.command()(export)
app.command("export-model")(export_model)
app.command()(serve)


@app.command()
def show(
    run: RunArgument,
    image_id: Annotated[str, typer.Argument(help="The image's id, as in the run's tables.", show_default=False)],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="The PNG to write; by default RUN/sheets/IMAGE_ID.png."),
    ] = None,
) -> None:
    """Draw a contact sheet of one image: all that the run knows about it."""
    directory, config = open_run(run)

    from pfit_ray.results.contact_sheet import contact_sheet, sheet_url

    sheet = contact_sheet(config, directory, image_id)
    url = output or sheet_url(directory, image_id)
    storage.write_bytes(url, sheet)
    out.print(url, soft_wrap=True)


@app.command()
def report(
    run: RunArgument,
    images: Annotated[int, typer.Option(help="The most images with thumbnails.", min=0, max=200)] = 72,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="The page to write, a path or a URL; by default RUN/report.html."),
    ] = None,
) -> None:
    """Write a report of a run, finished or not: one HTML page that needs no network."""
    directory, config = open_run(run)

    from pfit_ray.results.report import write_report

    out.print(write_report(config, directory, output, images), soft_wrap=True)


@app.command("import-checkpoint")
def import_published(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The checkpoint, a path or a URL.")],
    network: Annotated[str, typer.Option(help="The network: classifier, affinitynet or deeplab.", show_default=False)],
    backbone: Annotated[str, typer.Option(help="Its backbone, such as resnest101.", show_default=False)],
    output: Annotated[
        str,
        typer.Option("--output", "-o", help="The .safetensors file to write, a path or a URL.", show_default=False),
    ],
    classes: Annotated[
        str | None,
        typer.Option(help="Names of its classes, such as cat,dog. By default VOC's, if it has 20."),
    ] = None,
) -> None:
    """Convert a checkpoint of the published PuzzleCAM or PerimeterFit programs to a .safetensors file."""
    from pfit_ray.nets.published import import_checkpoint

    names = None if classes is None else [name.strip() for name in classes.split(",")]
    out.print(import_checkpoint(file, network, backbone, output, names).describe(), soft_wrap=True)


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        out.print(__version__)
        raise typer.Exit


def main() -> NoReturn:
    """Entry point: a user's mistake is one sentence and exit code 2, a failed run 1; Ctrl-C is 130, SIGTERM 143."""
    from pfit_ray.errors import RunFailedError

    try:
        with quiet_drivers():
            app(prog_name=app.info.name)
    except UserError as error:
        err.print(redacted(str(error)), soft_wrap=True)
        sys.exit(EXIT_MISTAKE)
    except RunFailedError as error:
        err.print(redacted(str(error)), soft_wrap=True)
        sys.exit(EXIT_FAILED)
    sys.exit(0)


def _load(url: str, overrides: list[str] | None) -> RunConfig:
    config = load_config(url, overrides or [], storage.read_bytes)
    storage.configure(config.storage)
    return config
