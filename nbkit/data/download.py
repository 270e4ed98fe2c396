"""One file over the network: taken up where it stopped, over https to the end, and never without end."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import requests
from urllib3.exceptions import HTTPError

log = logging.getLogger(__name__)

NO_VERSION = (requests.codes.bad_request, requests.codes.forbidden, requests.codes.not_found)
"""What S3 answers where a version id is malformed, may not be read, or is gone."""
# a server that drips ends: fewer bytes than this in a minute, or longer than this for one file
LEAST_BYTES, WINDOW_S, TOTAL_S = 60_000, 60.0, 6 * 3600.0


class _Session(requests.Session):
    """Follows no redirect from https to anything else."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        if target and urlsplit(resp.url).scheme == "https" and urlsplit(urljoin(resp.url, target)).scheme != "https":
            raise requests.exceptions.InvalidURL(f"{urlsplit(resp.url).netloc} redirects from https to {target[:80]}")
        return target


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
        Whatever goes wrong on the way, and a server slower than `LEAST_BYTES` in `WINDOW_S` or `TOTAL_S` in all.
    """
    have = part.stat().st_size if part.exists() else 0
    # identity: a range counts bytes of the file, not of a compressed transfer
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    plain, _, version = url.partition("?versionId=")
    with _Session() as session, session.get(url, headers=headers, stream=True, timeout=30) as answer:
        if version and answer.status_code in NO_VERSION:
            log.warning("%s: version %s is refused (%d); taken without it", plain, version, answer.status_code)
            receive(plain, part, limit=limit)
            return
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            return
        answer.raise_for_status()
        resumed = answer.status_code == requests.codes.partial_content
        with part.open("ab" if resumed else "wb") as stream:
            for chunk in _in_time(answer):
                stream.write(chunk)
                if limit and stream.tell() > limit:
                    break  # no more is taken; what there is fails its check


def _in_time(answer: requests.Response) -> Iterator[bytes]:
    """The body as it comes in, for as long as it comes fast enough."""
    begun = since = time.monotonic()
    got = 0
    while chunk := _some(answer):
        yield chunk
        now, got = time.monotonic(), got + len(chunk)
        if now - begun > TOTAL_S:
            raise requests.exceptions.ReadTimeout(f"not finished after {TOTAL_S / 3600:.0f} hours")
        if now - since > WINDOW_S:
            if got < LEAST_BYTES:
                raise requests.exceptions.ReadTimeout(f"too slow: {got} bytes in {now - since:.0f} s")
            since, got = now, 0


def _some(answer: requests.Response) -> bytes:
    """What has arrived: iter_content would wait for a whole chunk, which may take a dripping server hours."""
    try:
        return answer.raw.read1(2**18, decode_content=True)
    except HTTPError as error:
        raise requests.exceptions.ConnectionError(str(error)) from error
