"""Damaged files, each from a number of its own; what once failed is tried first (kept.toml)."""

from __future__ import annotations

import base64
import os
import random
import struct
import tomllib
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from nbkit.core.checks import NbkitError

CASES = int(os.environ.get("NBKIT_FUZZ") or 2000)
KEPT = tomllib.loads(Path(__file__).with_name("kept.toml").read_text(encoding="utf-8"))
NUMBERS = (0, 1, -1, 2, 127, 255, 256, 32767, 65535, 2**30, 2**31 - 1, -(2**31), 2**32 - 1, 2**62)
FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-40, 1e38, float("inf"), float("-inf"), float("nan"))
WORDS = (
    b"\0", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\xe2\x80\xa8", b"\r", b"\n", b"\t", b'"', b"'", b",", b";", b"\\",
    b"[", b"]", b"{", b"}", b":", b"=", b"#", b"-", b".", b"null", b"NaN", b"-1", b"1e999", b"9" * 5000, b"x" * 300,
    b"[" * 3000, b'{"a":' * 3000, b"n/a", b"../", b"\\ud800", b"=cmd()", b"<script>",
)
_TEXTS = ("utf-16", "utf-16-le", "utf-32", "utf-8-sig")


def damaged(raw: bytes, draw: random.Random, words: Sequence[bytes] = WORDS) -> bytes:
    """Bits turned, numbers and words put in or over, bytes taken out, doubled or cut off; or another encoding."""
    raw = bytearray(raw)
    kind = draw.randrange(9)
    for _ in range(draw.randint(1, 4)):
        i = draw.randrange(len(raw))
        j = i + draw.randint(1, 40)
        if kind == 0:
            raw[i] ^= 1 << draw.randrange(8)
        elif kind == 1:
            raw[i] = draw.randrange(256)
        elif kind == 2:
            number = _number(draw)
            i -= i % len(number)
            raw[i : i + len(number)] = number
        elif kind == 3:
            word = draw.choice(words)
            raw[i : i + draw.choice((0, 0, 1, len(word)))] = word
        elif kind == 4:
            raw[i:j] = b""
        elif kind == 5:
            raw[i:i] = raw[i:j] * draw.choice((1, 1, 1, 50))
        elif kind == 6:
            raw[i:j] = draw.randbytes(j - i)
        elif kind == 7:
            del raw[i:]
        else:
            return bytes(raw).decode("latin-1").encode(draw.choice(_TEXTS))
        raw = raw or bytearray(b"x")
    return bytes(raw)


def _number(draw: random.Random) -> bytes:
    order, size = draw.choice("<>"), draw.choice("bhiqfd")
    if size in "fd":
        return struct.pack(order + size, draw.choice(FLOATS))
    width = struct.calcsize(size)
    return (draw.choice(NUMBERS) % 2 ** (8 * width)).to_bytes(width, "little" if order == "<" else "big")


class Door:
    """Counts what comes of files that are tried at one door; anything but a refusal or a right reading is a failure.

    Parameters
    ----------
    name : str
        In kept.toml.
    wholes : sequence of bytes
        Good files, one of which each case damages.
    share : int
        One in so many cases is tried, where a case takes long.
    """

    def __init__(self, name: str, wholes: Sequence[bytes], *, words: Sequence[bytes] = WORDS, share: int = 1) -> None:
        self.name, self.wholes, self.words, self.cases = name, wholes, (*WORDS, *words), max(CASES // share, 1)
        self.refused = self.read = 0
        self.failures: dict[tuple[str, ...], str] = {}
        self.kinds: Counter[tuple[str, ...]] = Counter()

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Which good file, and what became of it: the kept ones, then as many new ones as asked for."""
        for which, packed in KEPT.get(self.name, ()):
            yield which, zlib.decompress(base64.b64decode(packed))
        for number in range(self.cases):
            draw = random.Random(f"{self.name} {number}")
            which = draw.randrange(len(self.wholes))
            yield which, damaged(self.wholes[which], draw, self.words)

    def tries(self, which: int, raw: bytes, look: Callable[[], None]) -> None:
        """`look` reads the damaged file and asserts that what it read is right."""
        try:
            look()
        except NbkitError as error:
            self.refused += 1
            self._hold(error.where and error.expected and error.found and error.remedy, which, raw, error)
        except Exception as error:  # noqa: BLE001 - any other is the finding
            self._hold(False, which, raw, error)
        else:
            self.read += 1

    def _hold(self, good: object, which: int, raw: bytes, error: Exception) -> None:
        if good:
            return
        last = traceback.extract_tb(error.__traceback__)[-1]
        kind = type(error).__name__, f"{Path(last.filename).name}:{last.lineno}"
        self.kinds[kind] += 1
        packed = base64.b64encode(zlib.compress(raw, 9)).decode()
        known = self.failures.get(kind)
        line = f'{" ".join(kind)}: {str(error)[:200]}\n    [{which}, "{packed}"],'
        if known is None or len(line) < len(known):
            self.failures[kind] = line

    def close(self, *, least: float = 0.02) -> None:
        """Nothing failed, and both ends were met: a door that refuses all, or none, tries nothing."""
        told = "\n".join(f"{self.kinds[kind]} times {line}" for kind, line in self.failures.items())
        assert not told, f"{self.name}: add to kept.toml and mend:\n{told}"
        both = self.refused, self.read
        assert sum(both) < 50 or min(both) >= least * sum(both), both
