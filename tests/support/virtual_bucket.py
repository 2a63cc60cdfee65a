"""An S3 server in the network of a virtual host, which the tests outside of that network reach, too."""

import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from support.s3 import BUCKET
from support.virtual_hosts import VirtualHost

PORT = 9000
SERVER = """
import socket, sys, threading
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

application = DomainDispatcherApplication(create_backend_app)
inside = socket.create_server((sys.argv[1], int(sys.argv[2])))
for listening in (int(sys.argv[3]), inside.fileno()):
    server = make_server("", 0, application, threaded=True, fd=listening)
    threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()  # to its end, which comes with that of the test
"""
"""A socket stays in the network that it was made in: one is handed over, the other one is made there."""


@contextmanager
def virtual_bucket(host: VirtualHost, address: str) -> Iterator[str]:
    """A moto server with an empty bucket, at an address of a host and on loopback; gives the URL of the latter."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        outside = f"http://127.0.0.1:{listening.getsockname()[1]}"
        words = [sys.executable, "-c", SERVER, address, str(PORT), str(listening.fileno())]
        process = subprocess.Popen(
            host.command(words, ["--net"]),
            pass_fds=[listening.fileno()],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    try:
        request = urllib.request.Request(f"{outside}/{BUCKET}", method="PUT")
        urllib.request.urlopen(request, timeout=60).close()
        yield outside
    finally:
        process.communicate(timeout=20)
