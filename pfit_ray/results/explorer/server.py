"""The explorer as a server on this machine."""

import logging
import secrets
import socket
from collections.abc import Callable

import uvicorn

from pfit_ray.config import RunConfig
from pfit_ray.errors import UserError
from pfit_ray.results.explorer.app import make_app
from pfit_ray.results.explorer.guard import is_loopback
from pfit_ray.results.explorer.state import Explorer
from pfit_ray.rundir.directory import RunDirectory


def serve(config: RunConfig, run: RunDirectory, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serve a run's explorer until it is interrupted.

    Args:
        config: the run's config.
        run: the run directory.
        host: name or address that it listens at.
        port: port that it listens at; 0: any free one.
        say: shows the start-up link to the user.

    Raises:
        UserError: when the address cannot be had, or the run has no images.
    """
    explorer = Explorer(config, run)
    loopback = is_loopback(host)
    with _listen(host, port) as listener:
        port = listener.getsockname()[1]
        token = secrets.token_urlsafe(32)
        app = make_app(explorer, token, cookie=f"pfit_ray_{port}", any_host=not loopback)
        settings = uvicorn.Config(
            app, log_level=logging.WARNING, access_log=False, server_header=False, ws="none", lifespan="off",
            proxy_headers=False, timeout_graceful_shutdown=3,
        )  # fmt: skip
        shown = f"[{host}]" if ":" in host else host
        say(f"Explorer of {run.root}: http://{shown}:{port}/?token={token}")
        if not loopback:
            say("Other machines can reach it. The connection is not encrypted: anyone who listens can read the token.")
        say("Ctrl-C ends it.")
        explorer.refresh_aside(0.0)
        uvicorn.Server(settings).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise UserError(
            f"serve: {host} port {port} is not available ({error.strerror or error}); choose another --port, or 0"
        ) from error
