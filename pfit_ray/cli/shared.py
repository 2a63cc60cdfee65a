"""What all commands share: consoles, arguments and options."""

from typing import Annotated

import typer
from rich.console import Console

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

out = Console(highlight=False, markup=False, emoji=False)
err = Console(stderr=True, highlight=False, markup=False, emoji=False)

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run directory (a config's output).")]
AddressOption = Annotated[
    str | None,
    typer.Option(
        help="Ray cluster to join, such as auto or 10.0.0.1:6379. The default is the variable RAY_ADDRESS; without it, "
        "Ray starts on this machine.",
    ),
]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Show Ray's own messages.")]
