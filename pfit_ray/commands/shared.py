"""What all commands share: where they print, what they take, and how they open a run."""

import os
from typing import Annotated

import typer
from rich.console import Console

from pfit_ray import storage
from pfit_ray.config import RunConfig, load_config
from pfit_ray.credentials import OPTIONS_VARIABLE
from pfit_ray.errors import UserError
from pfit_ray.layout import RunDirectory

out = Console(highlight=False, markup=False, emoji=False)
err = Console(stderr=True, highlight=False, markup=False, emoji=False)

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run directory (a config's output).")]
AddressOption = Annotated[
    str | None,
    typer.Option(
        help="Ray cluster to join, such as auto or 10.0.0.1:6379. Without it the variable RAY_ADDRESS counts, and "
        "without that Ray starts on this machine.",
    ),
]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Keep Ray's own messages.")]


def open_run(url: str) -> tuple[RunDirectory, RunConfig]:
    """A run directory and the config that it was made with; storage is reached as that config says.

    Raises:
        UserError: when it is no run directory.
    """
    directory = RunDirectory(storage.absolute(url))
    config = directory.url("config.yaml")
    if not storage.exists(config):
        raise UserError(f"{url} is not a run directory: it has no config.yaml; give the output of a run")
    loaded = load_config(config, read=storage.read_bytes)
    if OPTIONS_VARIABLE not in os.environ:
        storage.configure(loaded.storage)
    return directory, loaded
