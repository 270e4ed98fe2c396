"""The page of `nbkit data check`: whole, self-contained, ignored by git, without paths of this machine."""

from __future__ import annotations

import base64
import csv
import re
import subprocess
from html.parser import HTMLParser

import nibabel as nib
import numpy as np
import pytest

from nbkit.data import check
from nbkit.runner.qc import QcPage, anchor, qc_folder
from tests.data import trees


def written(path, folder, **options):
    """The page of a data set."""
    reading, page, found = check.read_own(path, **options), QcPage("mine"), []
    for look in check.look_at_images(reading, progress=False):
        page.add(look)
        found += look.findings
    return page.write(folder, check.verdicts(reading, found), [f for f in reading.findings if not f.subject])


class Tags(HTMLParser):
    """Every tag with its attributes; fails on one closed out of order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def broken(tmp_path):
    """ADNI with a constant image, and its page's folder."""
    root = trees.adni(tmp_path / "bids")
    file = next((root / "sub-ADNI002S0729" / "ses-M012").rglob("*.nii.gz"))
    nib.save(nib.Nifti1Image(np.zeros(trees.SHAPE, np.float32), trees.AFFINE), file)
    return written(root, tmp_path / "out")


def test_one_picture_per_scan_and_nothing_from_elsewhere(broken, tmp_path):
    text = broken.read_text(encoding="utf-8")
    tags = Tags(text)
    assert tags.open == [] and not {"script", "link", "iframe"} & {t for t, _ in tags.found}
    pictures = [a for t, a in tags.found if t == "img"]
    assert len(pictures) == 4 and "could not be read" in text
    assert all(base64.b64decode(a["src"].partition("base64,")[2])[:4] == b"\x89PNG" for a in pictures)
    assert all(a["loading"] == "lazy" and "sagittal, coronal and axial" in a["alt"] for a in pictures)
    assert sum("brain mask outlined" in a["alt"] for a in pictures) == 3
    assert str(tmp_path) not in text
    ids = {a["id"] for _, a in tags.found if "id" in a}
    assert {a["href"].removeprefix("#") for t, a in tags.found if t == "a"} == ids


def test_the_page_says_what_was_found(broken):
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", broken.read_text(encoding="utf-8")))
    assert "1 of 2 subjects pass" in text and "a constant image" in text and "leave this scan out" in text
    assert "12 × 13 × 11 voxels of 14 × 14 × 14 mm, stored LAS" in text
    assert "M000 · T1w · 73.7 years · CN" in text and "100 % of it on bright voxels" in text


def test_findings_come_as_a_table_too(broken):
    rows = list(csv.DictReader(broken.with_name("findings.csv").read_text(encoding="utf-8").splitlines()))
    assert [(r["subject"], r["verdict"], r["where"][:7]) for r in rows] == [
        ("(all)", "warning", "FDG-PET"), ("ADNI002S0729", "refused", "sub-ADN"),
    ]


def test_faults_of_the_whole_data_set_stand_first(tmp_path):
    page = written(trees.oasis3(tmp_path / "bids"), tmp_path / "out").read_text(encoding="utf-8")
    assert page.index("The data set as a whole") < page.index("same score vector") < page.index("Verdicts")
    assert "0 of 2 subjects pass" in page


def test_git_ignores_the_folder_wherever_it_is(broken):
    repository = broken.parent.parent
    subprocess.run(["git", "init", "-q", str(repository)], check=True)
    seen = subprocess.run(
        ["git", "-C", str(repository), "status", "--porcelain", "-uall", "--", "out"], check=True, capture_output=True,
    )
    assert seen.stdout == b""


def test_names_become_folders_and_addresses(tmp_path):
    assert qc_folder("results", "my data/ä").as_posix() == "results/qc-my-data"
    assert anchor("OAS3 <1>") == "s-OAS3--1-"
