"""One file over the network: taken up where it stopped, over https to the end, and never without end."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests

log = logging.getLogger(__name__)

NO_VERSION = (requests.codes.bad_request, requests.codes.forbidden, requests.codes.not_found)
"""What S3 answers where a version id is malformed, may not be read, or is gone."""
# a server that drips ends: fewer bytes than this in a minute, headers included, or longer than this for one file
LEAST_BYTES, WINDOW_S, TOTAL_S = 60_000, 60.0, 6 * 3600.0
MOST_BYTES = 100_000_000
"""Of a file whose size no manifest states."""
_REDIRECTS, _BLOCK, _AHEAD = 5, 2**18, 4


def receive(url: str, part: Path, *, limit: int | None = None) -> None:
    """Download `url` into the file `part`, from where it ends.

    Parameters
    ----------
    url : str
        A redirect away from https is not followed. A version id of S3 (``?versionId=...``) that the server refuses is
        left out: whoever asked checks the hash.
    part : path
        What is there already is not asked for again, if the server knows ranges.
    limit : int, optional
        Bytes the whole file has; no more than a block beyond is taken.

    Raises
    ------
    requests.exceptions.RequestException
        Whatever goes wrong on the way, a server slower than `LEAST_BYTES` in `WINDOW_S` or `TOTAL_S` in all, and more
        than `MOST_BYTES` where there is no `limit`.
    """
    have = part.stat().st_size if part.exists() else 0
    # identity: a range counts bytes of the file, not of a compressed transfer
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    plain, _, version = url.partition("?versionId=")
    with closing(_in_time(url, headers)) as arriving:
        answer = next(arriving)
        if version and answer.status_code in NO_VERSION:
            log.warning("%s: version %s is refused (%d); taken without it", plain, version, answer.status_code)
            receive(plain, part, limit=limit)
            return
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            return
        answer.raise_for_status()
        with part.open("ab" if answer.status_code == requests.codes.partial_content else "wb") as stream:
            for chunk in arriving:
                stream.write(chunk)
                if stream.tell() > (limit or MOST_BYTES):
                    break  # no more is taken; what there is fails its check
            if not limit and stream.tell() > MOST_BYTES:
                said = f"more than {MOST_BYTES / 1e6:.0f} MB of a file whose size no manifest states"
                raise requests.exceptions.ConnectionError(said)


def _in_time(url: str, headers: Mapping[str, str]) -> Iterator[Any]:
    """The answer with its headers, then its body piece by piece, for as long as they come fast enough.

    A thread reads, because a library that waits for the rest of a line or of a handshake looks at no clock.
    """
    arrived: queue.Queue[Any] = queue.Queue(_AHEAD)
    gone, answer = threading.Event(), None
    threading.Thread(target=_read, args=(url, headers, arrived, gone), daemon=True).start()
    begun = since = time.monotonic()
    got = 0
    try:
        while (item := _within(arrived, since + WINDOW_S - time.monotonic())) is not None:
            if isinstance(item, Exception):
                raise item
            got += len(item) if isinstance(item, bytes) else 0
            answer = answer or item
            if item != b"":
                yield item
            now = time.monotonic()
            if now - begun > TOTAL_S:
                raise requests.exceptions.ReadTimeout(f"not finished after {TOTAL_S / 3600:.0f} hours")
            if now - since >= WINDOW_S:
                if got < LEAST_BYTES:
                    raise requests.exceptions.ReadTimeout(f"too slow: {got} bytes in {now - since:.0f} s")
                since, got = now, 0
    finally:
        gone.set()
        with suppress(AttributeError, OSError, RuntimeError, ValueError):  # it may have ended by itself
            answer.raw.shutdown()


def _within(arrived: queue.Queue[Any], seconds: float) -> Any:
    """What has arrived: an answer, bytes, an exception, None at the end; b"" where nothing came in time."""
    try:
        return arrived.get(timeout=max(seconds, 0.0))
    except queue.Empty:
        return b""


def _read(url: str, headers: Mapping[str, str], arrived: queue.Queue[Any], gone: threading.Event) -> None:
    def give(item: Any) -> None:
        while not gone.is_set():
            with suppress(queue.Full):
                arrived.put(item, timeout=1.0)
                return

    try:
        with requests.Session() as session, _answer(session, url, headers) as answer:
            give(answer)
            # iter_content would wait for a whole chunk
            while not gone.is_set() and (chunk := answer.raw.read1(_BLOCK, decode_content=True)):
                give(chunk)
        give(None)
    except requests.exceptions.RequestException as error:
        give(error)
    except Exception as error:  # of urllib3 and http.client, over what a server may send
        give(requests.exceptions.ConnectionError(f"{type(error).__name__}: {error}"))


def _answer(session: requests.Session, url: str, headers: Mapping[str, str]) -> requests.Response:
    """The answer to a request; bodies of redirects, which may have no end, are not read."""
    for _ in range(_REDIRECTS + 1):
        answer = session.get(url, headers=dict(headers), stream=True, timeout=30, allow_redirects=False)
        target = session.get_redirect_target(answer)
        if not target:
            return answer
        answer.close()
        url = _followed(url, target)
    raise requests.exceptions.TooManyRedirects(f"more than {_REDIRECTS} redirects, the last to {url[:80]}")


def _followed(url: str, target: str) -> str:
    """Where a redirect leads; from https to nothing else."""
    there = urljoin(url, target)
    if urlsplit(url).scheme == "https" and urlsplit(there).scheme != "https":
        raise requests.exceptions.InvalidURL(f"{urlsplit(url).netloc} redirects from https to {target[:80]}")
    return there
