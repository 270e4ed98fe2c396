"""How a download ends that would not end by itself, and where it does not go."""

from __future__ import annotations

import itertools
import types

import pytest
import requests

from nbkit.data import download


def answer(pieces):
    """An answer whose body arrives in these pieces."""
    pieces = iter(pieces)
    return types.SimpleNamespace(raw=types.SimpleNamespace(read1=lambda *_, **__: next(pieces, b"")))


@pytest.fixture
def clock(monkeypatch):
    """Ten seconds pass between two pieces."""
    seconds = itertools.count(0.0, 10.0)
    monkeypatch.setattr(download, "time", types.SimpleNamespace(monotonic=lambda: next(seconds)))


def test_a_dripping_server_ends_after_a_minute(clock):
    taken = []
    with pytest.raises(requests.exceptions.ReadTimeout, match="too slow: 7 bytes in 70 s"):
        taken.extend(download._in_time(answer(itertools.repeat(b"x"))))


def test_one_that_begins_fast_and_then_drips_ends_too(clock):
    pieces = itertools.chain([b"x" * 10**6] * 30, itertools.repeat(b"x"))
    with pytest.raises(requests.exceptions.ReadTimeout, match="too slow"):
        list(download._in_time(answer(pieces)))


def test_one_that_never_ends_does(clock):
    with pytest.raises(requests.exceptions.ReadTimeout, match="not finished after 6 hours"):
        for _ in download._in_time(answer(itertools.repeat(b"x" * 10**5))):
            pass


def test_a_slow_but_steady_one_is_taken_whole(clock):
    assert b"".join(download._in_time(answer([b"x" * 20_000] * 100))) == b"x" * 2_000_000


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
    response = requests.Response()
    response.url, response.status_code, response.headers["location"] = begun, 302, target
    if followed:
        assert download._Session().get_redirect_target(response) == target
    else:
        with pytest.raises(requests.exceptions.RequestException, match="redirects from https"):
            download._Session().get_redirect_target(response)
