"""Outlooks are predicted once at a few ages, mixed in between, and refused where the system refuses."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError, require
from nbkit.core.config import Settings
from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort, Forecast, Scan, Subject
from nbkit.core.volume import Volume
from nbkit.geometry.futures import Futures
from nbkit.geometry.warp import Displacement
from nbkit.metrics.regions import by_structure
from nbkit.papers.trajectories.outlooks import (
    Carried, Outlooks, Painted, Seen, Sliced, counted, first_of_each, gaps, kept_back, labelled, measured,
    people_table, read_at,
)

SHAPE, YEARS = (10, 9, 8), (0, 2, 6)


@dataclass(frozen=True)
class Config(Settings):
    """Nothing to set."""

    rate: float = 0.02


def image(seed: int = 0) -> Volume:
    return Volume(torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed)) + 0.1, np.eye(4))


def scan(age: float = 70.0) -> Scan:
    labels = torch.zeros(SHAPE, dtype=torch.int16)
    labels[2:5, 3:6, 2:6], labels[6:8, 3:6, 2:6] = 1, 2
    names = {1: "hippocampus_left", 2: "hippocampus_right"}
    mask = Volume(torch.ones(SHAPE, dtype=torch.bool), np.eye(4))
    return Scan("sub-01", f"{age:g}", age, {"T1w": image()}, {"brain": mask}, Volume(labels, np.eye(4)), names)


class Painter:
    """Darkens the last scan by its rate a year; below 78 years only. Counts how often it is asked."""

    def __init__(self, rate: float = 0.02) -> None:
        self.config, self.asked, self.trained_on = Config(rate), [], "abc"

    def predict(self, history, ages, diagnosis):
        self.asked.append((tuple(ages), diagnosis))
        require(max(ages) < 78, "Painter", expected="ages below 78", found=max(ages), remedy="Ask for less.")
        last = history[-1]
        return [last.images["T1w"].with_data(last.images["T1w"].data * self.left(a - last.age)) for a in ages]

    def left(self, years: float) -> float:
        return 0.5 * (1 - self.config.rate * years)  # what it paints is always half as bright

    def predict_with_uncertainty(self, history, ages, diagnosis, *, draws, measure):
        images = self.predict(history, ages, diagnosis)
        return [
            Forecast(a, i, i, {n: v * np.linspace(0.9, 1.1, draws) ** (1 + (a - history[-1].age) / 10)
                               for n, v in measure(i).items()})
            for a, i in zip(ages, images, strict=True)
        ]


class Segmenter:
    """The brighter, the larger."""

    config, trained_on = Config(), "abc"
    names = {1: "hippocampus_left", 2: "hippocampus_right"}

    def volumes(self, image, *, mask):
        return {"hippocampus_left": float(image.data.mean()) * 100, "hippocampus_right": float(image.data.mean()) * 50}

    def segment(self, image, *, mask):
        return image.with_data(torch.ones(image.data.shape, dtype=torch.int16))


class Mover:
    """Shifts everything along x by a tenth of a voxel a year."""

    def __init__(self) -> None:
        self.config, self.calls = Config(), 0

    def futures(self, scan, ages, course):
        self.calls += 1
        grow = torch.linspace(-1, 1, SHAPE[0]).view(1, 1, -1, 1, 1).expand(1, 3, *SHAPE)
        fields = [grow * (0.1 * (a - scan.age)) * torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1, 1) for a in ages]
        return Futures(scan, tuple(ages), Displacement(torch.cat(fields)), made_by=f"moved {course}")


@dataclass
class Person:
    """As views ask."""

    id: str = "sub-01"
    age: float = 70.0


@pytest.fixture
def cache(tmp_path) -> Cache:
    return Cache(tmp_path)


def outlooks(foresee, cache, last: Scan | None = None, **options) -> Outlooks:
    seen = {"sub-01": Seen([last or scan()], {"hippocampus": 60.0})}
    return Outlooks(foresee, seen, courses={"HC": "CN", "AD": "AD"}, years=YEARS, cache=cache, **options)


def test_volumes_are_what_was_measured_times_the_growth_of_the_systems_own_images(cache):
    painter = Painter()
    says = outlooks(Painted(painter, Segmenter()), cache)
    for year in YEARS:
        said = says(Person(), 70.0 + year, "HC")
        assert said.volumes["hippocampus"] == pytest.approx(60.0 * (1 - 0.02 * year), rel=1e-6)
        assert said.spread == {}
        torch.testing.assert_close(said.image.data, image().data * painter.left(year))
    assert painter.asked == [((70.0, 72.0, 76.0), "CN")]


def test_between_the_years_images_and_volumes_are_mixed(cache):
    says = outlooks(Painted(Painter(), Segmenter()), cache)
    low, high, middle = (says(Person(), 70.0 + y, "HC") for y in (2, 6, 3))
    torch.testing.assert_close(middle.image.data, 0.75 * low.image.data + 0.25 * high.image.data)
    assert middle.volumes["hippocampus"] == pytest.approx(60 * 0.94)
    exact = says.exactly("sub-01", 3.0, "HC")
    torch.testing.assert_close(exact.image.data, middle.image.data)  # this system is a straight line itself


def test_the_spread_is_that_of_drawn_futures_each_against_itself_now(cache):
    says = outlooks(Painted(Painter(), Segmenter(), draws=5), cache)
    assert says(Person(), 70.0, "HC").spread["hippocampus"] == pytest.approx(0.0, abs=1e-9)
    drawn = np.linspace(0.9, 1.1, 5)
    expected = 60.0 * (1 - 0.02 * 6) * np.std(drawn**0.6, ddof=1)
    assert says(Person(), 76.0, "HC").spread["hippocampus"] == pytest.approx(expected, rel=1e-5)


def test_what_deforms_the_scan_carries_its_labels(cache):
    mover = Mover()
    says = outlooks(Carried(mover), cache)
    later = says(Person(), 76.0, "AD")
    futures = mover.futures(scan(), [76.0], "AD")
    torch.testing.assert_close(later.image.data, futures.images()[0].data)
    grown = sum(futures.volumes()[0].values()) / sum(counted(scan()).values())
    assert later.volumes["hippocampus"] == pytest.approx(60.0 * grown, rel=1e-6) != pytest.approx(60.0)


def test_only_what_knows_courses_is_told_of_a_turn():
    assert Carried(Painter()).turns and not Carried(Painter(), turns=False).turns
    assert not Painted(Painter(), None).turns and not Sliced(Painter(), {}).turns
    assert Carried(Painter()).key() != Carried(Painter(), turns=False).key()


def test_a_course_is_predicted_once_and_read_from_disk_by_the_next_process(cache):
    mover = Mover()
    says = outlooks(Carried(mover), cache)
    first = says(Person(), 75.0, "AD")
    says(Person(), 71.0, "AD")
    assert mover.calls == 1
    again = outlooks(Carried(mover), cache)(Person(), 75.0, "AD")
    assert mover.calls == 1 and again.volumes == first.volumes
    torch.testing.assert_close(again.image.data, first.image.data, rtol=0, atol=0)
    assert again.image.history == first.image.history
    outlooks(Carried(mover), cache, key="other data")(Person(), 75.0, "AD")
    outlooks(Carried(mover), cache)(Person(), 75.0, "HC")
    assert mover.calls == 3


def test_where_the_system_refuses_the_last_years_those_before_are_kept(cache):
    painter = Painter()
    seen = {"sub-01": Seen([scan(73.0)], {"hippocampus": 60.0})}
    says = Outlooks(Painted(painter, Segmenter()), seen, courses={"HC": "CN"}, years=YEARS, cache=cache)
    assert says(Person(age=73.0), 74.5, "HC").volumes["hippocampus"] == pytest.approx(60 * 0.97)
    with pytest.raises(NbkitError, match="up to 2 years after the last scan seen"):
        says(Person(age=73.0), 76.0, "HC")
    late = Outlooks(Painted(painter, Segmenter()), {"sub-01": Seen([scan(78.0)], {})}, courses={"HC": "CN"},
                    years=YEARS, cache=cache)
    with pytest.raises(NbkitError, match="ages below 78"):
        late(Person(age=78.0), 78.0, "HC")


def test_a_course_may_depend_on_the_scan(cache):
    painter = Painter()
    seen = {"sub-01": Seen([scan()], {"hippocampus": 60.0})}
    courses = {"turn": lambda last: f"turns at {last.age + 4:g}"}
    Outlooks(Painted(painter, Segmenter()), seen, courses=courses, years=YEARS, cache=cache)(Person(), 72.0, "turn")
    assert painter.asked[0][1] == "turns at 74"


def test_scans_without_labels_get_the_segmenters(cache):
    bare = replace(scan(), labels=None, label_names={})
    with pytest.raises(NbkitError, match="labelled"):
        counted(bare)
    assert counted(labelled(bare, Segmenter())) == {"hippocampus": float(np.prod(SHAPE))}
    assert labelled(scan(), Segmenter()).labels.data.max() == 2


@pytest.mark.parametrize(("change", "message"), [
    ({"age": 69.5}, "up to 6 years"), ({"course": "EMCI"}, "one of AD, HC"), ({"person": Person("sub-02")}, "sub-01"),
])
def test_what_is_not_there_is_refused(cache, change, message):
    asked = {"person": Person(), "age": 71.0, "course": "HC"} | change
    with pytest.raises(NbkitError, match=message):
        outlooks(Painted(Painter(), Segmenter()), cache)(*asked.values())


def test_years_must_rise_from_the_scan(cache):
    with pytest.raises(NbkitError, match="rising years that start at 0"):
        Outlooks(Carried(Mover()), {}, courses={}, years=(1, 2), cache=cache)


def test_a_system_of_slices_changes_one_plane_and_has_no_volumes(cache):
    """Seen on a head of 3 mm voxels, whose planes lie at multiples of 3 mm."""
    affine = np.array([[3.0, 0, 0, -49.5], [0, 3, 0, -66.5], [0, 0, 3, 0], [0, 0, 0, 1]])
    head = Volume(torch.rand(34, 34, 6, generator=torch.Generator().manual_seed(4)) + 0.2, affine)
    mask = head.with_data(torch.ones(head.data.shape, dtype=torch.bool))
    last = Scan("sub-01", "70", 70.0, {"T1w": head}, {"brain": mask})
    where = {"level_mm": 9.0, "size": 34, "spacing_mm": 3.0}
    says = outlooks(Sliced(Painter(0.05), where), cache, last)
    found = says(Person(), 72.0, "HC")
    expected = head.data.clone()
    expected[..., 3] *= 0.5 * (1 - 0.05 * 2)
    assert torch.allclose(found.image.data, expected, atol=1e-5) and found.volumes == {}
    assert outlooks(Sliced(Painter(0.05), where | {"level_mm": 12.0}), cache).foresee.key() != says.foresee.key()


def test_the_gap_of_mixing_is_that_half_way():
    """What it paints squares with the years, so a straight line misses it."""

    class Bent(Painter):
        def left(self, years: float) -> float:
            return 1 - 0.01 * years**2

    seen = {"sub-01": Seen([scan()], {"hippocampus": 60.0})}
    outlooks = Outlooks(Painted(Bent(), Segmenter()), seen, courses={"HC": "CN"}, years=(0, 2, 6), cache=Nothing())
    person = scan()
    asked = SimpleNamespace(id="sub-01", age=person.age)
    brightest = float(person.image("T1w").data.quantile(0.99))
    assert outlooks.gap(asked, 4.0, "HC") == pytest.approx(0.04 * brightest, rel=1e-3)
    assert outlooks.gap(asked, 2.0, "HC") == pytest.approx(0, abs=1e-6)


def test_gaps_are_those_of_the_first_person_who_can_be_answered():
    class Picky(Painter):
        def predict(self, history, ages, diagnosis):
            if history[-1].age < 60:
                raise NbkitError("Picky: ages", expected="ages above 60", found="50.6", remedy="Choose another.")
            return super().predict(history, ages, diagnosis)

    young, old = scan(50.65), scan(70.0)
    seen = {"own": Seen([young], {"hippocampus": 60.0}), "sub-01": Seen([old], {"hippocampus": 60.0})}
    asked = [SimpleNamespace(id="own", age=young.age), SimpleNamespace(id="sub-01", age=old.age)]
    options = {"courses": {"HC": "CN"}, "years": (0, 2, 6), "cache": Nothing()}
    systems = {n: Outlooks(Painted(m(0.01), Segmenter()), seen, **options) for n, m in (("A", Painter), ("B", Picky))}
    table, said = gaps(systems, asked, 4.0, "HC")
    assert table["id"].tolist() == ["explore.mixing.a", "explore.mixing.b"]
    assert table["value"].tolist() == [systems["A"].gap(asked[0], 4.0, "HC"), systems["B"].gap(asked[1], 4.0, "HC")]
    assert said == ["B has no answer here for person 1 of 2: it expects ages above 60, not 50.6."]
    table, said = gaps({"B": systems["B"]}, asked[:1], 4.0, "HC")
    assert len(table) == 0 and len(said) == 1


class Nothing:
    """A cache that keeps nothing."""

    def get(self, kind, key, make, load):
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder))
            return load(Path(folder))


def test_the_first_of_every_diagnosis_and_whose_last_visits_are_kept_back():
    people = [Subject(f"s{k}", None, d, tuple(scan(70.0 + v) for v in range(n)))
              for k, (d, n) in enumerate([("CN", 2), ("CN", 3), ("AD", 5), ("CN", 4)])]
    cohort = Cohort("some", tuple(people), "embedded")
    assert [s.id for s in first_of_each(cohort)] == ["s1", "s2"]
    own = replace(scan(61.0), subject="own")
    shown = first_of_each(cohort, own=own, most=1)
    assert [s.id for s in shown] == ["own", "s1"] and [kept_back(s.scans) for s in shown] == [0, 2]
    table = people_table(first_of_each(cohort, own=own))
    assert table.values.tolist() == [["own scan", 1, 61.0, 0, 61.0], ["CN", 1, 70.0, 2, 72.0], ["AD", 3, 72.0, 2, 74.0]]
    assert not {"own", "s1"} & set(table.astype(str).to_numpy().ravel())


def test_volumes_are_those_that_a_simulation_knows_or_counted_or_read():
    bare = replace(scan(71.0), labels=None)
    subject = Subject("s", None, "CN", (scan(), bare))
    scans, volumes = measured(subject, Segmenter(), {})
    assert scans[1].labels is not None and volumes[0] == counted(scan())
    read = by_structure(Segmenter().volumes(bare.image("T1w"), mask=bare.mask("brain")))
    assert volumes[1] == read
    finer = replace(bare, images={"T1w": Volume(2 * bare.image("T1w").data, np.diag([0.5, 0.5, 0.5, 1.0]))})
    assert measured(subject, Segmenter(), {}, closer=[finer])[1][1] != read
    assert (read_at(bare), read_at(bare, [finer])) == (1.0, 0.5)
    known = SimpleNamespace(volumes=[{"hippocampus_left": 1.0, "hippocampus_right": 2.0}] * 2)
    assert measured(subject, Segmenter(), {"s": known})[1] == [{"hippocampus": 3.0}] * 2
