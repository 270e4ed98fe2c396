"""How a download ends that would not end by itself, and where it does not go."""

from __future__ import annotations

import itertools
import socketserver
import threading
import types
from contextlib import contextmanager

import pytest
import requests

from nbkit.data import download


@pytest.fixture
def clock(monkeypatch):
    """Ten seconds pass between two looks at the clock."""
    seconds = itertools.count(0.0, 5.0)
    monkeypatch.setattr(download, "time", types.SimpleNamespace(monotonic=lambda: next(seconds)))


@pytest.fixture
def body(monkeypatch):
    """``body(pieces)`` gives what of a body that arrives in these pieces is taken."""

    class Answer:
        status_code = 200

        def __init__(self, pieces):
            pieces = iter(pieces)
            self.raw = types.SimpleNamespace(read1=lambda *_, **__: next(pieces, b""), shutdown=lambda: None)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    def taken(pieces):
        monkeypatch.setattr(download, "_answer", lambda *_: Answer(pieces))
        _, *rest = download._in_time("https://a.org/x", {})
        return rest

    return taken


def test_a_dripping_server_ends_after_a_minute(clock, body):
    with pytest.raises(requests.exceptions.ReadTimeout, match=r"too slow: \d bytes in \d0 s"):
        body(itertools.repeat(b"x"))


def test_one_that_begins_fast_and_then_drips_ends_too(clock, body):
    with pytest.raises(requests.exceptions.ReadTimeout, match="too slow"):
        body(itertools.chain([b"x" * 10**6] * 30, itertools.repeat(b"x")))


def test_one_that_never_ends_does(clock, body):
    with pytest.raises(requests.exceptions.ReadTimeout, match="not finished after 6 hours"):
        body(itertools.repeat(b"x" * 10**5))


def test_a_slow_but_steady_one_is_taken_whole(clock, body):
    assert b"".join(body([b"x" * 20_000] * 100)) == b"x" * 2_000_000


STARTS = {
    "nothing at all": b"", "half a status line": b"HTTP/1.1 2", "half a header": b"HTTP/1.1 200 OK\r\nServer: x",
    "headers without an end": b"HTTP/1.1 200 OK\r\nA: b\r\n",
    "no body": b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n",
    "half the size of a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;abc",
    "trailers without an end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n",
    "one word of patience": b"HTTP/1.1 100 Continue\r\n\r\n",
}


@contextmanager
def saying(*lines: bytes, hang: bool = False):
    """A server that answers the n-th request with the n-th line, and hangs up, or says nothing more until we go."""
    left, lines = threading.Event(), iter(lines)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            while b"\r\n\r\n" not in self.request.recv(65536):
                pass
            self.request.sendall(next(lines, b""))
            if hang:
                left.wait()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/x"
        finally:
            left.set()
            server.shutdown()


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_whatever_a_server_leaves_unfinished_ends(monkeypatch, tmp_path, start):
    """A library that waits for the rest of a line looks at no clock: its timeout counts from byte to byte."""
    monkeypatch.setattr(download, "WINDOW_S", 0.1)
    with saying(start, hang=True) as url, pytest.raises(requests.exceptions.ReadTimeout, match="too slow: 0 bytes"):
        download.receive(url, tmp_path / "x.part", limit=10)


NONSENSE = {
    "no http": b"SSH-2.0-x\r\n", "an endless header": b"HTTP/1.1 200 OK\r\n" + b"a" * 10**6,
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000 + b"\r\n", "nothing": b"",
    "a size that is none": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "another packing": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    "nowhere": b"HTTP/1.1 302 F\r\nLocation: http://[::1\r\n\r\n",
    "a file": b"HTTP/1.1 302 F\r\nLocation: file:///etc/passwd\r\n\r\n",
}


@pytest.mark.parametrize("said", NONSENSE.values(), ids=NONSENSE)
def test_whatever_a_server_says_is_one_kind_of_error(tmp_path, said):
    with saying(said) as url, pytest.raises(requests.exceptions.RequestException):
        download.receive(url, tmp_path / "x.part", limit=10)
    assert not (tmp_path / "x.part").exists() or (tmp_path / "x.part").stat().st_size == 0


def test_a_redirect_is_followed_and_its_endless_body_left_alone(tmp_path):
    aside = b"HTTP/1.1 302 Found\r\nLocation: /y\r\nConnection: close\r\n\r\n" + b"x" * 1000
    with saying(aside, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody") as url:
        download.receive(url, tmp_path / "x.part", limit=4)
    assert (tmp_path / "x.part").read_bytes() == b"body"


def test_redirects_in_a_circle_end(tmp_path):
    round_ = b"HTTP/1.1 302 Found\r\nLocation: /x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    with saying(*[round_] * 99) as url, pytest.raises(requests.exceptions.TooManyRedirects):
        download.receive(url, tmp_path / "x.part", limit=4)


def test_more_than_a_manifest_says_is_cut_off(monkeypatch, tmp_path):
    monkeypatch.setattr(download, "_BLOCK", 1000)
    with saying(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200_000) as url:
        download.receive(url, tmp_path / "x.part", limit=4)
    assert 4 < (tmp_path / "x.part").stat().st_size <= 1004


def test_a_file_whose_size_nobody_states_has_a_largest_one(monkeypatch, tmp_path):
    monkeypatch.setattr(download, "MOST_BYTES", 1_000_000)
    endless = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2_000_000
    with saying(endless) as url, pytest.raises(requests.exceptions.ConnectionError, match="more than 1 MB"):
        download.receive(url, tmp_path / "x.part")


@pytest.mark.parametrize(
    ("begun", "target", "followed"),
    [
        ("https://a.org/x", "http://a.org/x", False), ("https://a.org/x", "ftp://a.org/x", False),
        ("https://a.org/x", "https://b.org/y", True), ("https://a.org/x", "//b.org/y", True),
        ("https://a.org/x", "/y", True), ("https://a.org/x", "HTTPS://b.org/y", True),
        ("https://a.org/x", "file:///etc/passwd", False), ("http://127.0.0.1/x", "http://127.0.0.1/y", True),
    ],
)
def test_a_redirect_stays_on_https(begun, target, followed):
    if followed:
        assert download._followed(begun, target).partition("://")[2].startswith(("a.org/", "b.org/", "127."))
    else:
        with pytest.raises(requests.exceptions.RequestException, match="redirects from https"):
            download._followed(begun, target)
