"""Real scans without labels get what the segmenter reads, once; those with labels keep theirs."""

from __future__ import annotations

from dataclasses import replace

import torch

from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort, Subject
from nbkit.papers.trajectories import scan_error, scan_segmenter
from nbkit.papers.trajectories.design import has_labels
from nbkit.papers.trajectories.scan_labels import read_labels, with_labels
from nbkit.systems import Bench
from tests.papers.trajectories.test_outlooks import Segmenter, scan


class Counting(Segmenter):
    """Counts how often it is asked."""

    asked = 0

    def segment(self, image, *, mask):
        Counting.asked += 1
        return super().segment(image, mask=mask)


def test_bare_scans_are_read_once_and_the_cohort_is_another_one(tmp_path):
    bare = replace(scan(71.0), labels=None, label_names={})
    people = Cohort("own", (Subject("s", None, "CN", (scan(), bare)),), "restricted", {"data_hash": "x"})
    cache, before = Cache(tmp_path), Counting.asked
    first, second = (with_labels(people, Counting(), key="k" * 20, cache=cache, progress=False) for _ in range(2))
    assert has_labels(first) and Counting.asked == before + 1
    assert torch.equal(first.subjects[0].scans[0].labels.data, scan().labels.data)
    read = second.subjects[0].scans[1]
    assert read.labels.data.shape == (1, *read.image("T1w").shape) and (read.labels.data == 1).all()
    assert read.label_names == Segmenter.names and first.provenance["labels"] == "read by Counting kkkkkkkkkkkk"
    assert first.provenance["data_hash"] == second.provenance["data_hash"] != "x"
    other = with_labels(people, Counting(), key="another", cache=cache, progress=False)
    assert Counting.asked == before + 2 and other.provenance["data_hash"] != first.provenance["data_hash"]


def test_people_with_labels_stay_as_they_are():
    people = Cohort("own", (Subject("s", None, "CN", (scan(),)),), "open", {"data_hash": "x"})
    assert with_labels(people, Segmenter(), key="k", progress=False) is people


def test_what_found_the_labels_reads_what_is_painted_and_its_kept_error_is_told(monkeypatch):
    bare = replace(scan(), labels=None, label_names={})
    people = Cohort("own", (Subject("s", None, "CN", (bare, bare)),), "restricted", {"data_hash": "x"})
    monkeypatch.setattr(scan_segmenter, "shipped", lambda **_: Segmenter())
    read, own = read_labels(people), Cohort("own", (Subject("s", None, "CN", (scan(),)),), "open")
    assert has_labels(read) and read_labels(own) is own and read_labels(read) is read
    bench = Bench(read, "smoke", device="cpu")
    assert isinstance(bench.segmenter, Segmenter) and isinstance(bench.reader, Segmenter)
    assert bench.needs(["mrextrap_bayes", "brlp"]) == ["mrextrap", "brlp"], "no other segmenter is learned"
    assert Bench(own, "smoke").needs(["mrextrap_bayes"]) == ["mrextrap", "segmenter"]
    assert scan_error.whom(read).startswith("people of IXI") and scan_error.whom(own) == "1 people of own"
    assert bench.labels_said.startswith("Structures, read by Segmenter ")
    assert Bench(own, "smoke").labels_said == "Structures"
    labelled = read.subjects[0].baseline
    assert scan_error.error_of(labelled) == {} and scan_error.error_of(labelled, of=read)["hippocampus"] > 0


def test_where_some_scans_have_labels_of_their_own_none_are_read():
    people = Cohort("own", (Subject("s", None, "CN", (scan(), replace(scan(71.0), labels=None))),), "restricted")
    assert read_labels(people) is people
