"""An S3 bucket on loopback, in memory, that answers late and counts its requests by kind."""

import argparse
import json
import re
import threading
import time
import urllib.request
from bisect import bisect_right, insort
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE = 1000


class Bucket(ThreadingHTTPServer):
    """The objects of one bucket, whatever it is called."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port: int, latency: float) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.latency = latency
        self.lock = threading.Lock()
        self.objects: dict[str, tuple[bytes, str, float]] = {}
        self.keys: list[str] = []
        self.requests: Counter[str] = Counter()

    def put(self, key: str, data: bytes) -> str:
        """Store an object, and return its etag."""
        with self.lock:
            if key not in self.objects:
                insort(self.keys, key)
            etag = f"{time.monotonic_ns():x}"
            self.objects[key] = data, etag, time.time()
        return etag

    def remove(self, key: str) -> None:
        """Remove an object, if it is there."""
        with self.lock:
            if self.objects.pop(key, None) is not None:
                self.keys.remove(key)

    def page(self, prefix: str, delimiter: str, after: str) -> tuple[list[str], list[str], str | None]:
        """Keys and common prefixes behind `after`, and where the next page begins."""
        found, folders = list[str](), list[str]()
        with self.lock:
            place = bisect_right(self.keys, max(after, prefix)) if after else 0
            if not after:
                place = bisect_right(self.keys, prefix) - (prefix in self.objects)
            while place < len(self.keys) and self.keys[place].startswith(prefix):
                if len(found) + len(folders) == PAGE:
                    return found, folders, after
                key = after = self.keys[place]
                place += 1
                head, mark, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
                if mark:
                    folders.append(prefix + head + mark)
                    after = prefix + head + mark + "\U0010ffff"
                    place = bisect_right(self.keys, after)
                else:
                    found.append(key)
        return found, folders, None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Bucket

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _begin(self, kind: str) -> str:
        self.server.requests[kind] += 1
        time.sleep(self.server.latency)
        return unquote(urlsplit(self.path).path).lstrip("/").partition("/")[2]

    def _answer(self, status: int, data: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _found(self, key: str) -> tuple[bytes, dict[str, str]] | None:
        entry = self.server.objects.get(key)
        if entry is None:
            return None
        data, etag, changed = entry
        return data, {
            "ETag": f'"{etag}"',
            "Last_Modified": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(changed)),
        }

    def do_GET(self) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query, True).items()}
        if urlsplit(self.path).path == "/-/counts":
            told = {**self.server.requests, "objects": len(self.server.objects)}
            return self._answer(200, json.dumps(told).encode())
        if "list-type" in query:
            self._begin("LIST")
            return self._list(query)
        key = self._begin("GET")
        found = self._found(key)
        if found is None:
            return self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        data, headers = found
        if wanted := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "")):
            first, last = wanted.groups()
            start = int(first) if first else max(0, len(data) - int(last))
            end = min(int(last) + 1, len(data)) if first and last else len(data)
            part = data[start:end]
            return self._answer(206, part, **headers, Content_Range=f"bytes {start}-{end - 1}/{len(data)}")
        return self._answer(200, data, **headers)

    def do_HEAD(self) -> None:
        found = self._found(self._begin("HEAD"))
        if found is None:
            return self._answer(404)
        return self._answer(200, **found[1], Content_Length=str(len(found[0])))

    def do_PUT(self) -> None:
        key = self._begin("PUT")
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("If-None-Match") == "*" and key in self.server.objects:
            return self._answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
        return self._answer(200, ETag=f'"{self.server.put(key, data) if key else ""}"')

    def do_DELETE(self) -> None:
        self.server.remove(self._begin("DELETE"))
        return self._answer(204)

    def do_POST(self) -> None:
        self._begin("POST")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        for key in re.findall(r"<Key>(.*?)</Key>", body):
            self.server.remove(key.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
        return self._answer(200, b"<DeleteResult></DeleteResult>")

    def _list(self, query: dict[str, str]) -> None:
        after = query.get("continuation-token") or query.get("start-after", "")
        prefix = query.get("prefix", "")
        found, folders, token = self.server.page(prefix, query.get("delimiter", ""), after)
        parts = [f"<Name>b</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(found) + len(folders)}</KeyCount>"]
        for key in found:
            data, etag, changed = self.server.objects.get(key, (b"", "", 0.0))
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(changed))
            parts.append(
                f"<Contents><Key>{escape(key)}</Key><LastModified>{stamp}</LastModified><ETag>&quot;{etag}&quot;</ETag>"
                f"<Size>{len(data)}</Size></Contents>"
            )
        parts += [f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>" for folder in folders]
        parts.append(f"<IsTruncated>{'true' if token else 'false'}</IsTruncated>")
        if token:
            parts.append(f"<NextContinuationToken>{escape(token)}</NextContinuationToken>")
        body = '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        self._answer(200, (body + "".join(parts) + "</ListBucketResult>").encode(), Content_Type="application/xml")


def counts(port: int) -> Counter[str]:
    """Requests of a bucket so far by kind, and its `objects`."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/counts", timeout=60) as answer:
        return Counter(json.load(answer))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--latency", type=float, default=0.02, help="seconds that each answer waits")
    given = parser.parse_args()
    Bucket(given.port, given.latency).serve_forever()
