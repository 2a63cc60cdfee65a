"""An S3 server on loopback for the tests, and a faulty proxy before it."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from support.faulty_proxy import FaultyProxy

BUCKET = "bucket"
ACCESS_KEY = "AKIATESTKEYOFNOBODY1"
SECRET_KEY = "Sesame/0pen+this+is+a+secret+of+a+test"

VARIABLES = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    "AWS_CONFIG_FILE": "/nonexistent",
}
"""An identity for a test, and nothing of the one who runs it."""


class S3(NamedTuple):
    """A server with an empty bucket."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def s3_server() -> Iterator[S3]:
    """A moto server in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        server = S3(probe.getsockname()[1])
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(server.port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **VARIABLES},
    )
    try:
        _wait(server, process)
        urllib.request.urlopen(urllib.request.Request(f"{server.url}/{BUCKET}", method="PUT"), timeout=10).close()
        yield server
    finally:
        process.terminate()
        process.wait(20)


def _wait(server: S3, process: subprocess.Popen) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", server.port), 1).close()
        except OSError as error:
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError("moto.server does not start") from error
            time.sleep(0.05)
        else:
            return


@contextmanager
def proxied(server: S3) -> Iterator[FaultyProxy]:
    """A proxy before the server; its faults may be set while it runs."""
    with FaultyProxy(server.port) as proxy:
        yield proxy
