"""The command serve: a run's images in a browser."""

from typing import Annotated

import typer

from pfit_ray.cli.shared import RunArgument, out
from pfit_ray.errors import UserError
from pfit_ray.rundir.directory import open_run


def serve(
    run: RunArgument,
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines in, unencrypted.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at; 0 takes a free one.", min=0, max=65535)] = 8765,
) -> None:
    """Look through a run's images in a browser: filter, sort, see every stage, accept or reject.

    It prints a link that opens it. It writes nothing but the marks, to review/marks.parquet of the run.
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
