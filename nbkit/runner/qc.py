"""The page of `nbkit data check`: a verdict per subject and a picture per scan, in one file that git ignores."""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from nbkit import __version__
from nbkit.core.files import plain_cell, write_text
from nbkit.core.page import page
from nbkit.core.volume import Volume
from nbkit.figures.qc import png, scan_picture

TEMPLATE = Path(__file__).with_name("qc.html.j2")
COLUMNS = ("subject", "verdict", "where", "expected", "found", "remedy")


class Fault(Protocol):
    """A finding (:class:`nbkit.data.findings.Finding`)."""

    subject: str
    where: str
    expected: str
    found: str
    remedy: str
    refused: bool


class Judged(Protocol):
    """A verdict (:class:`nbkit.data.check.Verdict`)."""

    subject: str
    scans: int
    passed: bool
    refused: bool
    state: str
    findings: Sequence[Fault]


class Seen(Protocol):
    """A scan that was looked at (:class:`nbkit.data.check.Look`)."""

    subject: str
    session: str
    contrast: str
    age: float | None
    diagnosis: str
    path: str
    image: Volume | None
    mask: Volume | None
    facts: Mapping[str, Any]
    findings: Sequence[Fault]


@dataclass
class QcPage:
    """Collects scans one at a time, keeping only their pictures, and writes the page.

    Parameters
    ----------
    name : str
        Of the data set.
    """

    name: str
    scans: list[dict[str, Any]] = field(default_factory=list)

    def add(self, seen: Seen) -> None:
        """Draw a scan; what could not be read is listed without a picture."""
        picture = "" if seen.image is None else base64.b64encode(png(scan_picture(seen.image, seen.mask))).decode()
        self.scans.append({
            "subject": seen.subject, "session": seen.session, "contrast": seen.contrast, "age": seen.age,
            "diagnosis": seen.diagnosis, "path": seen.path, "facts": dict(seen.facts), "masked": seen.mask is not None,
            "findings": list(seen.findings), "picture": picture,
        })

    def write(self, folder: Path | str, verdicts: Sequence[Judged], findings: Sequence[Fault]) -> Path:
        """Write ``index.html`` and ``findings.csv`` into `folder`, which git is told to ignore.

        Parameters
        ----------
        verdicts : sequence
            One per subject.
        findings : sequence
            Those of the data set as a whole.
        """
        folder = Path(folder)
        write_text(folder / ".gitignore", "*\n")
        write_text(folder / "findings.csv", _csv([*findings, *(f for v in verdicts for f in v.findings)]))
        text = page(
            TEMPLATE, filters={"anchor": anchor, "short": lambda x: f"{x:.4g}"}, name=self.name,
            version=__version__, verdicts=verdicts, findings=findings, total=len(self.scans),
            scans={v.subject: [s for s in self.scans if s["subject"] == v.subject] for v in verdicts},
        )
        return write_text(folder / "index.html", text)


def qc_folder(root: Path | str, name: str) -> Path:
    """``<root>/qc-<name>``, with the name made fit for a folder."""
    return Path(root) / f"qc-{re.sub(r'[^A-Za-z0-9_.-]+', '-', name).strip('-.') or 'data'}"


def anchor(subject: str) -> str:
    """A subject's name as an address within the page."""
    return "s-" + re.sub(r"[^A-Za-z0-9_-]", "-", subject)


def _csv(findings: Sequence[Fault]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for f in findings:
        state = "refused" if f.refused else "warning"
        cells = (f.subject or "(all)", state, f.where, f.expected, f.found, f.remedy)
        writer.writerow([plain_cell(c) for c in cells])
    return stream.getvalue()
