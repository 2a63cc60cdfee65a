"""A proxy before an object store that fails like a real one: now and then, in a way that the seed decides."""

import fnmatch
import hashlib
import http.client
import socket
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HOP_HEADERS = {"connection", "transfer-encoding", "keep-alive"}


@dataclass
class Faults:
    """What goes wrong; may be changed while the proxy runs.

    Whether a request is hit depends on the seed, its method and path, and how often it has come before: not on the
    order in which clients ask.
    """

    seed: int = 0
    busy: float = 0.0
    """Share of requests answered by 503 SlowDown."""
    reset: float = 0.0
    """Share of requests whose connection is reset, half of them after the store has done what they ask."""
    cut: float = 0.0
    """Share of answers that end in the middle."""
    slow: dict[str, float] = field(default_factory=dict)
    """Seconds before an answer, by pattern of paths."""
    answers: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Status and error code that paths of a pattern are answered by."""
    seen: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Requests by method and path."""
    done: Counter[str] = field(default_factory=Counter)
    """Faults that have happened, by kind."""

    def chances(self, method: str, path: str) -> list[float]:
        """Numbers in [0, 1) of this very request."""
        with _lock:
            self.seen[method, path] += 1
            nth = self.seen[method, path]
        digest = hashlib.sha256(f"{self.seed} {method} {path} {nth}".encode()).digest()
        return [int.from_bytes(digest[start : start + 4]) / 2**32 for start in (0, 4, 8, 12)]

    def note(self, kind: str) -> None:
        """Count a fault."""
        with _lock:
            self.done[kind] += 1


_lock = threading.Lock()


class FaultyProxy:
    """Forwards 127.0.0.1:port to another port of this machine, with faults; a context manager."""

    def __init__(self, target_port: int, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        proxy = self

        class Handler(_Handler):
            target = target_port

            @property
            def faults(self) -> Faults:
                return proxy.faults

        self.server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "FaultyProxy":
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are what this proxy is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body go out as two packets; the second would wait 40 ms
    target: int
    faults: Faults

    def _serve(self) -> None:
        body = self._body()
        faults = self.faults
        busy, reset, when, cut = faults.chances(self.command, self.path)
        path = self.path.partition("?")[0]
        for pattern, seconds in faults.slow.items():
            if fnmatch.fnmatch(path, pattern):
                faults.note("slow")
                time.sleep(seconds)
        for pattern, (status, code) in faults.answers.items():
            if fnmatch.fnmatch(path, pattern):
                faults.note(code)
                return self._refuse(status, code)
        if busy < faults.busy:
            faults.note("busy")
            return self._refuse(503, "SlowDown")
        if reset < faults.reset and when < 0.5:
            faults.note("reset before")
            return self._reset()
        status, headers, data = self._forward(body)
        if reset < faults.reset:
            faults.note("reset after")
            return self._reset()
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in HOP_HEADERS | {"content-length", "server", "date"}:
                self.send_header(name, value)
        length = next((value for name, value in headers if name.lower() == "content-length"), str(len(data)))
        self.send_header("Content-Length", length)
        self.end_headers()
        if cut < faults.cut and len(data) > 1:
            faults.note("cut")
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            return None
        self.wfile.write(data)
        return None

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _serve  # noqa: N815 - http.server looks for these names

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection("127.0.0.1", self.target, timeout=60)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_HEADERS}
            headers["Content-Length"] = str(len(body))
            upstream.request(self.command, self.path, body, headers)
            answer = upstream.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            upstream.close()

    def _refuse(self, status: int, code: str) -> None:
        data = (
            b"" if self.command == "HEAD" else f"<Error><Code>{code}</Code><Message>told so</Message></Error>".encode()
        )
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
