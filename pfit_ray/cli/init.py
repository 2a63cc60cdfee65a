"""The command init: from a folder to a config."""

from pathlib import Path
from typing import Annotated

import typer

from pfit_ray.cli.shared import out
from pfit_ray.errors import UserError


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
    from pfit_ray.config.load import load_config
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
