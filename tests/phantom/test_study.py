"""People made once, whatever the jobs; kept as they are; credited to whom they come from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from nbkit.core.files import Cache
from nbkit.core.protocols import Subject
from nbkit.core.volume import Volume
from nbkit.data.lazy import Shelf
from nbkit.data.manifest import Manifest
from nbkit.phantom.acquisition import box_around
from nbkit.phantom.anatomy import ATTRIBUTION
from nbkit.phantom.parameters import load_parameters
from nbkit.phantom.study import Study, facts_of, half, store, stored


@dataclass(frozen=True)
class Someone:
    id: str


PEOPLE = tuple(map(Someone, "abcd"))


def make(person: Someone, folder: Path) -> None:
    """The name, and how many threads torch has."""
    (folder / "name.txt").write_text(f"{person.id} {torch.get_num_threads()}")


@pytest.fixture
def study(tmp_path):
    box = box_around(0.0, (1.0, 2.0, 3.0), (4, 5, 6))
    return Study("toy", "smoke", 7, "code", load_parameters(), box, Cache(tmp_path))


@pytest.mark.parametrize("prefer", ["threads", "processes"])
def test_jobs_side_by_side_make_everybody_in_order_on_one_thread(study, prefer):
    folders = study.made(PEOPLE, make, prefer=prefer, n_jobs=2, progress=False)
    assert [(folder / "name.txt").read_text() for folder in folders] == [f"{p.id} 1" for p in PEOPLE]


def test_who_is_there_is_not_made_again_and_nothing_is_called_first(study):
    called = []
    first = study.made(PEOPLE[:3], make, first=partial(called.append, "first"), progress=False)
    assert called == ["first"]

    def only_new(person, folder):
        called.append(person.id)
        make(person, folder)

    again = study.made(PEOPLE, only_new, progress=False)
    assert again[:3] == first and called == ["first", "d"]
    study.made(PEOPLE, only_new, first=partial(called.append, "once more"), progress=False)
    assert called == ["first", "d"]


@pytest.mark.parametrize("change", [{"seed": 8}, {"source": "other"}, {"box": box_around(0.0, 1.0, (4, 5, 6))}])
def test_what_people_depend_on_makes_others(study, change):
    other = Study(**{**vars(study), **change})
    assert not {*study.made(PEOPLE, make, progress=False)} & {*other.made(PEOPLE, make, progress=False)}
    changed = study.made(PEOPLE, make, depends=lambda person: [person.id, "more"], progress=False)
    assert not {*study.made(PEOPLE, make, progress=False)} & {*changed}


def test_volumes_come_back_by_kind_and_short_floats_as_long_ones(tmp_path):
    image = Volume(torch.rand(1, 3, 4, 5), np.diag([1.0, 2.0, 3.0, 1.0]), ("drawn",))
    mask = image.with_data(image.data > 0.5)
    store(tmp_path, {"image": {"T1w": image, "half": half(image)}, "mask": {"brain": mask}}, {"n": 1}, file="p1")
    kinds = {"image": ("T1w", "half"), "mask": ("brain",)}
    images, masks = (stored(tmp_path, kind, names, Shelf(), file="p1") for kind, names in kinds.items())
    assert torch.equal(images["T1w"].data, image.data) and images["T1w"].history == image.history
    assert images["half"].data.dtype == torch.float32 and torch.equal(masks["brain"].data, mask.data)
    torch.testing.assert_close(images["half"].data, image.data, atol=0, rtol=1e-3)
    assert np.array_equal(images["half"].affine, image.affine) and facts_of(tmp_path, file="p1") == {"n": 1}


def test_a_cohort_says_where_it_comes_from(study):
    people = [(Subject(p.id, "F", "CN", ()), p.id.upper()) for p in PEOPLE]
    drawn = study.cohort(people, ["hash"], kind="toy")
    assert (drawn.name, drawn.access, drawn.truth["c"]) == ("toy", "embedded", "C")
    assert drawn.provenance["grid"] == {"shape": [4, 5, 6], "spacing_mm": [1.0, 2.0, 3.0]}
    assert (drawn.provenance["attribution"], drawn.provenance["kind"]) == (ATTRIBUTION, "toy")
    assert drawn.provenance["data_hash"] != study.cohort(people, ["other"]).provenance["data_hash"]
    real = Manifest(
        name="r", title="t", access="open", licence="CC", attribution="Them", repository="where", commit="1"
    )
    both = study.cohort(people, ["hash"], [real, real.model_copy(update={"attribution": "Us"})])
    assert both.access == "open" and both.provenance["attribution"] == f"Them. Us. {ATTRIBUTION}"
    assert both.provenance["source"] == "where at commit 1; where at commit 1"
