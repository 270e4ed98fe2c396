"""A server on this machine that drops lines, ignores ranges and refuses version ids as it is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Serves `content` below any prefix of `under`; counts requests.

    It can ignore ranges, drop the line after `cut` bytes, once, and answer version ids with a status (`versions`, "*"
    for any).
    """

    def __init__(self, content: Mapping[str, bytes], under: str = "") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.under, self.requests, self.ranges, self.cut = dict(content), under, [], True, None
        self.versions: dict[str, int] = {}

    @property
    def address(self) -> str:
        """Without a slash at the end."""
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        path, _, version = self.path.partition("?versionId=")
        asked = self.headers.get("Range")
        self.server.requests.append((self.path, asked))
        body = self.server.content.get(path.lstrip("/").removeprefix(self.server.under))
        status = self.server.versions.get(version, self.server.versions.get("*")) if version else None
        if body is None or status:
            self._end(status or 404)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.ranges else 0
        if start >= len(body):
            self._end(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        cut, self.server.cut = self.server.cut, None
        self.wfile.write(body[start : cut if cut else None])

    def _end(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


@contextmanager
def serving(content: Mapping[str, bytes], under: str = "") -> Iterator[Server]:
    """The server while it runs."""
    with Server(content, under) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield running
        finally:
            running.shutdown()
            thread.join()
