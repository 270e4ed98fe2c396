"""InBrainSyn: closed forms of every variant, the order of two changes, one interpolation, and balls that shrink."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from scipy.ndimage import gaussian_filter

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Scan, TemplateModel, TrajectoryModel
from nbkit.core.volume import Volume
from nbkit.geometry.affine import velocity_through
from nbkit.geometry.flow import Velocity, compose, expv, jacobian_determinant
from nbkit.geometry.registration import register
from nbkit.geometry.transport import conjugate
from nbkit.geometry.warp import Displacement, grid_positions, warp
from nbkit.metrics.regions import regional_volumes
from nbkit.papers.inbrainsyn import inbrainsyn
from nbkit.papers.inbrainsyn.inbrainsyn import Config, InBrainSyn, Transition
from tests.geometry.fields import CENTRE, GENERATOR, INSIDE, OTHER, linear_field
from tests.geometry.frames import FRAMES, SHAPE
from tests.papers.trajectories.ageing_balls import AFFINE, RATES, BallTemplate, cohort, distance, people, person

SETTINGS = Config(
    levels_mm=(8.0, 4.0), iterations=(12, 10), velocity_mm=4.0, change_step=0.1, align="similarity",
    smooth_mm=0.0, squarings=None,
)
SHIFT = np.array([1.3, -0.4, 2.1])


@pytest.fixture(scope="module")
def model() -> InBrainSyn:
    """Templates that know the truth, fitted to six balls."""
    templates = {group: BallTemplate(rate) for group, rate in RATES.items()}
    return InBrainSyn(SETTINGS, templates=templates).fit(cohort(people(4, "HC", seed=0) + people(2, "AD", seed=1)))


@pytest.fixture(scope="module")
def ball() -> Scan:
    return person("p", "HC", ages=(64.0,), size=1.06, centre=(3.0, -2.0, 1.0)).baseline


@pytest.fixture(scope="module")
def quick(model) -> InBrainSyn:
    """The same with few iterations, and without the affine that takes most of the time."""
    return model.variant(align="none", iterations=(4, 3))


# closed forms, with registration replaced by the fields it should find


class _Plain:
    """A template of noise that tells its age by its first voxel."""

    config = None

    def __init__(self, affine: np.ndarray) -> None:
        self.affine = affine

    def template(self, age: float) -> Volume:
        data = torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        data[0, 0, 0, 0] = age
        return Volume(data, self.affine)


def analytic(affine: np.ndarray, monkeypatch, **changes) -> tuple[InBrainSyn, Scan]:
    """Templates change by (years) · GENERATOR (x − CENTRE); the way to the scan is the constant SHIFT."""

    def found(moving, fixed, **options):
        ages = fixed[:, 0, 0, 0, 0] - moving[:, 0, 0, 0, 0]
        change = ages.view(-1, 1, 1, 1, 1) * linear_field(GENERATOR, affine)
        constant = torch.as_tensor(SHIFT).view(1, 3, 1, 1, 1).expand_as(change)
        return SimpleNamespace(velocity=constant if bool((fixed[:, 0, 0, 0, 0] < 0).any()) else change)

    monkeypatch.setattr(inbrainsyn.registration, "register", found)
    monkeypatch.setattr(inbrainsyn, "fingerprint", lambda image: "scan")
    settings = Config(align="none", smooth_mm=0.0, squarings=None).changed(**changes)
    model = InBrainSyn(settings, templates={"HC": _Plain(affine)})
    model.age_ranges = {"HC": (60.0, 70.0)}
    image = torch.rand(1, *SHAPE, dtype=torch.float64)
    image[0, 0, 0, 0] = -1
    monkeypatch.setattr(model, "_template", lambda group, age: _Plain(affine).template(age))
    return model, Scan("p", "1", 65.0, {"T1w": Volume(image, affine)})


@pytest.mark.parametrize("affine", FRAMES.values(), ids=FRAMES)
@pytest.mark.parametrize(("variant", "share"), [("half", 0.5), ("full", 1.0), ("none", 0.0), ("wrong", -0.5)])
def test_linear_change_along_a_translation(affine, variant, share, monkeypatch):
    """u = A(x − p) per year and v = c arrive as A(x − p + share · c), forward and back in time."""
    model, scan = analytic(affine, monkeypatch, transport=variant)
    futures = model.futures(scan, [66.0, 65.0, 63.0], "HC")
    for years, velocity in zip((1, 0, -2), futures.velocities.split(1), strict=True):
        offset = torch.as_tensor(GENERATOR @ SHIFT).view(1, 3, 1, 1, 1)
        assert torch.allclose(velocity, years * (linear_field(GENERATOR, affine) + share * offset), atol=1e-9)
    assert not futures.displacements[1].any()
    assert torch.equal(futures.displacements[:1], expv(futures.velocities[:1], affine=affine))


@pytest.mark.parametrize("affine", FRAMES.values(), ids=FRAMES)
def test_a_velocity_seen_through_an_affine(affine):
    """M⁻¹ ∘ exp(u) ∘ M of a linear field has the velocity A⁻¹ B (Ax + b − p)."""
    matrix = np.eye(4)
    matrix[:3, :3] += 0.02 * OTHER
    matrix[:3, 3] = CENTRE - matrix[:3, :3] @ CENTRE
    found = velocity_through(linear_field(GENERATOR, affine), matrix, grid=affine, shape=SHAPE, affine=affine)
    exact = np.linalg.inv(matrix[:3, :3]) @ GENERATOR @ matrix[:3, :3]
    assert torch.allclose(found[INSIDE], linear_field(exact, affine)[INSIDE], atol=1e-9)


def test_the_articles_code_decides_rungs_and_squarings(monkeypatch):
    """Rungs below a voxel and seven squarings by default, and whatever else is asked for."""
    asked = []
    real = {name: getattr(inbrainsyn, name) for name in ("transport", "expv")}

    def listening(name, option):
        return lambda *given, **more: asked.append(more[option]) or real[name](*given, **more)

    for name, option in (("transport", "rung_voxels"), ("expv", "steps")):
        monkeypatch.setattr(inbrainsyn, name, listening(name, option))
    affine = FRAMES["RAS"]
    published = Config()
    for changes in ({"rung_voxels": published.rung_voxels, "squarings": published.squarings}, {"rung_voxels": 0.5}):
        model, scan = analytic(affine, monkeypatch, **changes)
        model.futures(scan, [66.0], "HC")
    assert asked == [1.0, 7, 0.5, None]


def test_the_scan_is_smoothed_before_everything(model, ball):
    """As in the article's code: what is registered and what is moved; its labels stay, and 0 leaves it as it is."""
    soft = model.variant(smooth_mm=3.0, transport="none", iterations=(2, 2)).futures(ball, [64.0], "HC")
    sharp = model.variant(transport="none", iterations=(2, 2)).futures(ball, [64.0], "HC")
    image = ball.image("T1w").numpy().astype(float)
    expected = gaussian_filter(image, 3.0 / 4.0, truncate=3.5)
    assert np.allclose(soft.images()[0].numpy(), expected, atol=1e-5)
    assert torch.equal(sharp.images()[0].data, ball.image("T1w").data)
    assert torch.equal(soft.labels()[0].data, ball.labels.data) and Config().smooth_mm == 0.75


# two changes, one after the other


def planted(model: InBrainSyn, affine: np.ndarray, monkeypatch, size: float = 0.1) -> None:
    """HC changes by GENERATOR and AD by OTHER, per year, both in the anatomy of the scan."""
    generators = {"HC": size * GENERATOR, "AD": size * OTHER}

    def change(scan, group, start, ages):
        return Velocity(torch.cat([(age - start) * linear_field(generators[group], affine) for age in ages]))

    monkeypatch.setattr(model, "_change", change)


def plain_model() -> InBrainSyn:
    model = InBrainSyn(Config(), templates={"HC": None, "AD": None})
    model.age_ranges = {"HC": (60.0, 80.0), "AD": (60.0, 80.0)}
    return model


@pytest.mark.parametrize("affine", FRAMES.values(), ids=FRAMES)
def test_after_a_transition_the_two_changes_multiply_in_this_order(affine, monkeypatch):
    """x -> exp(3 OTHER) exp(2 GENERATOR) x: what comes later in life stands first."""
    model = plain_model()
    planted(model, affine, monkeypatch)
    image = Volume(torch.rand(1, *SHAPE, dtype=torch.float64), affine)
    futures = model.futures(Scan("p", "1", 65.0, {"T1w": image}), [70.0, 66.0, 67.0], Transition(67.0))
    maps = (expm(0.3 * OTHER) @ expm(0.2 * GENERATOR), expm(0.1 * GENERATOR), expm(0.2 * GENERATOR))
    for field, exact in zip(futures.displacements.split(1), maps, strict=True):
        expected = linear_field(exact - np.eye(3), affine)
        assert torch.allclose(field[INSIDE], expected[INSIDE], atol=2e-4)
    swapped = linear_field(expm(0.2 * GENERATOR) @ expm(0.3 * OTHER) - np.eye(3), affine)
    assert float((futures.displacements[:1] - swapped)[INSIDE].abs().max()) > 5e-3
    assert futures.velocities is None


def test_the_composition_is_what_warping_twice_would_show(monkeypatch):
    """The anatomy at the transition, changed by the conjugate of the second change: φ ∘ (φ⁻¹ ∘ ψ ∘ φ)."""
    affine, shape = np.diag([2.0, 2.0, 2.0, 1.0]), (25, 26, 24)
    places = grid_positions(shape, affine, like=torch.empty(0, dtype=torch.float64)) - 24
    fade = torch.exp(-((places.norm(dim=1, keepdim=True) / 18) ** 4))
    sway = torch.stack([torch.sin(places[:, 1] / 9), torch.cos(places[:, 2] / 8), torch.sin(places[:, 0] / 7)], dim=1)
    fields = {"HC": Velocity(2 * fade * sway), "AD": Velocity(1.5 * fade * sway.roll(1, dims=1))}
    model = plain_model()
    monkeypatch.setattr(
        model, "_change", lambda s, g, start, ages: Velocity(torch.cat([(a - start) * fields[g] for a in ages]))
    )
    scan = Scan("p", "1", 65.0, {"T1w": Volume(torch.zeros(1, *shape), affine)})
    once = model.futures(scan, [69.0], Transition(67.0)).displacements
    healthy, ill = (expv(Velocity(2 * fields[g]), affine=affine) for g in ("HC", "AD"))
    moved = conjugate(ill, Velocity(2 * fields["HC"]), affine=affine)
    twice, swapped = (compose(healthy, later, affine=affine) for later in (moved, ill))
    gap, other = (float((once - field).square().mean().sqrt()) for field in (twice, swapped))
    assert other > 0.2
    assert gap < other / 10


def test_a_transition_is_healthy_before_and_continuous_at_its_age(quick, ball):
    ages = [65.0, 67.0, 70.0]
    turned = quick.futures(ball, ages, Transition(67.0))
    healthy = quick.futures(ball, ages, "HC")
    assert torch.allclose(turned.displacements[:2], healthy.displacements[:2], atol=1e-5)
    just_after, a_year_after = (quick.futures(ball, [67.0 + t], Transition(67.0)).displacements for t in (1e-3, 1.0))
    jump, step = (float((field - turned.at(67.0)).norm(dim=1).mean()) for field in (just_after, a_year_after))
    assert jump < 0.1 * step
    at_once = quick.futures(ball, [70.0], Transition(ball.age))
    assert torch.allclose(at_once.displacements, quick.futures(ball, [70.0], "AD").displacements, atol=1e-5)


# balls


def volumes_of(scan: Scan) -> dict[str, float]:
    return regional_volumes(scan.labels, scan.label_names)


def core(volumes: dict[str, float]) -> float:
    return volumes["hippocampus_left"]


def test_a_ball_shrinks_as_its_group_does(model, ball):
    """Radius 1 − rate · years: volumes fall by its cube, faster with disease, between the two after a transition."""
    courses = ("HC", "AD", Transition(66.0))
    found = {c: core(model.futures(ball, [68.0], c).volumes()[0]) / core(volumes_of(ball)) for c in courses}
    for group, rate in RATES.items():
        exact = ((1 - rate * 8) / (1 - rate * 4)) ** 3
        assert found[group] - 1 == pytest.approx(exact - 1, rel=0.25)
    assert found["AD"] < found[Transition(66.0)] < found["HC"] < 1


@pytest.mark.parametrize("transport", inbrainsyn.TRANSPORTS)
def test_no_future_folds(model, ball, transport):
    futures = model.variant(transport=transport).futures(ball, [63.0, 72.0], "AD")
    assert float(jacobian_determinant(futures.displacements, affine=futures.affine).min()) > 0
    assert np.sign(core(futures.volumes()[0]) - core(futures.volumes()[1])) == 1


def test_no_pt_turns_the_scan_into_the_template(model, ball):
    """Registered straight to the template, a person loses what is their own: here, a dent."""
    dent = ball.image("T1w").data * torch.from_numpy(1 - 0.6 * (distance((15, -2, 1)) < 8)).float()
    dented = replace(ball, images={"T1w": ball.image("T1w").with_data(dent)})
    kept, lost = (
        model.variant(transport=t, align="none").futures(dented, [64.0], "HC").displacements for t in ("half", "direct")
    )
    assert not kept.any()
    assert float(lost.abs().max()) > 1
    template = model.templates["HC"].template(64.0).data
    moved = warp(dent[None], lost, affine=AFFINE)[0]
    assert float((moved - template).square().mean()) < 0.6 * float((dent - template).square().mean())


def test_the_age_of_the_scan_gives_the_scan_bit_for_bit(model, ball):
    futures = model.futures(ball, [64.0], "HC")
    assert torch.equal(futures.images()[0].data, ball.image("T1w").data)
    assert torch.equal(futures.labels()[0].data, ball.labels.data)


def test_variants_share_registrations_and_nothing_else(quick, ball, monkeypatch):
    calls = []

    def counted(moving, fixed, **options):
        calls.append(len(fixed))
        return register(moving, fixed, **options)

    monkeypatch.setattr(inbrainsyn.registration, "register", counted)
    fresh = quick.fit(cohort(people(4, "HC", seed=0) + people(2, "AD", seed=1)))
    half = fresh.futures(ball, [66.0, 68.0], "HC")
    assert calls == [1, 2]
    full = fresh.variant(transport="full").futures(ball, [68.0, 66.0], "HC")
    assert calls == [1, 2]
    assert torch.allclose(full.displacements.flip(0), half.displacements, atol=1.0)
    assert not torch.equal(full.displacements.flip(0), half.displacements)
    fresh.futures(ball, [66.0, 69.0], "HC")
    assert calls == [1, 2, 1]
    brighter = replace(ball, images={"T1w": ball.image("T1w").with_data(ball.image("T1w").data * 1.01)})
    fresh.futures(brighter, [66.0], "HC")
    assert calls == [1, 2, 1, 1]


def test_ages_asked_together_or_alone_give_the_same(quick, ball):
    together = quick.futures(ball, [66.5, 71.5], "AD").displacements
    alone = InBrainSyn(quick.config, templates=quick.templates)
    alone.age_ranges = quick.age_ranges
    assert torch.allclose(alone.futures(ball, [71.5], "AD").displacements, together[1:], atol=1e-5)


def test_the_way_leads_from_the_template_to_the_scan(model, ball):
    """Without an affine before it, its flow makes the template look like the scan."""
    way = model.variant(align="none").way(ball, "HC")
    template, image = model.templates["HC"].template(64.0).data, ball.image("T1w").data
    led = warp(template[None], expv(Velocity(way.data[None]), affine=AFFINE), affine=AFFINE)[0]
    assert float((led - image).square().mean()) < 0.3 * float((template - image).square().mean())
    way.check_grid(ball.image("T1w"), "test")
    assert way.data.shape[0] == 3 and way.history[-1] == "from the HC template"
    with pytest.raises(NbkitError, match="InBrainSyn.way: group: expected one of AD, HC, found 'CN'"):
        model.way(ball, "CN")


def test_protocol_groups_and_courses(model, ball):
    assert isinstance(model, TrajectoryModel) and isinstance(model.templates["HC"], TemplateModel)
    assert [model.templates[g].seen for g in ("HC", "AD")] == [8, 4]
    assert [model.course_of(d) for d in ("CN", "SMC", "LMCI", "AD", "HC")] == ["HC", "HC", "AD", "AD", "HC"]
    image = model.predict((ball,), [66.0], "SMC")[0]
    assert torch.equal(image.data, model.futures(ball, [66.0], "HC").images()[0].data)
    converter = person("c", "HC", ages=(63.0, 71.0), size=1.0, centre=(0, 0, 0))
    converter = replace(converter, scans=(converter.scans[0], replace(converter.scans[1], diagnosis="AD")))
    assert [[s.age for s in model.visits(cohort([converter]), g)] for g in ("HC", "AD")] == [[63.0], [71.0]]
    assert model.covers(converter) and model.answers(converter.baseline, [71.0], Transition(66.0))
    assert not model.answers(converter.baseline, [90.0], "HC")
    assert not model.covers(replace(converter, diagnosis="EMCI"))


def test_saved_and_loaded_it_predicts_the_same_bits(quick, ball, tmp_path):
    changed = quick.variant(transport="full")
    changed.save(tmp_path / "model")
    again = InBrainSyn.load(tmp_path / "model", template_types=(BallTemplate,))
    assert (again.config, again.age_ranges, again.trained_on) == (changed.config, quick.age_ranges, quick.trained_on)
    assert again.trained_on != ""
    ask = (ball, [66.0, 69.0], Transition(67.0))
    assert torch.equal(again.futures(*ask).displacements, changed.futures(*ask).displacements)
    with pytest.raises(NbkitError, match="template_types: expected one of int, found 'BallTemplate'"):
        InBrainSyn.load(tmp_path / "model", template_types=(int,))


def test_bad_questions_are_refused(model, ball):
    refused = {
        r"which the HC template covers, found 90\. Leave": (ball, [66.0, 90.0], "HC"),
        r"expected ages from 6\d.\d to 7\d.\d years, which the AD.* found 50": (ball, [50.0], "AD"),
        "found 'EMCI'. Say which course": (ball, [66.0], "EMCI"),
        "a transition at or after the age of the scan, 64, found 61": (ball, [66.0], Transition(61.0)),
        "p/64: expected a scan with an age": (replace(ball, age=None), [66.0], "HC"),
    }
    for message, ask in refused.items():
        with pytest.raises(NbkitError, match=message):
            model.futures(*ask)
    with pytest.raises(NbkitError, match="expected a fitted model"):
        InBrainSyn(SETTINGS, templates=model.templates).futures(ball, [66.0], "HC")
    with pytest.raises(NbkitError, match="template: expected one of HC, found 'AD'"):
        healthy = InBrainSyn(SETTINGS, templates={"HC": model.templates["HC"]})
        healthy.age_ranges = model.age_ranges
        healthy.futures(ball, [66.0], "AD")
    with pytest.raises(NbkitError, match="expected visits of LMCI, AD, found none"):
        InBrainSyn(SETTINGS, templates=model.templates).fit(cohort(people(2, "HC", seed=0)))


def test_bad_settings_are_refused(model):
    with pytest.raises(NbkitError, match="Did you mean 'half'"):
        Config(transport="halve")
    with pytest.raises(NbkitError, match="Did you mean 'similarity'"):
        Config(align="similar")
    with pytest.raises(NbkitError, match="SMC in both"):
        Config(diseased=("SMC", "AD"))
    with pytest.raises(NbkitError, match="InBrainSyn: templates"):
        InBrainSyn(templates={"MCI": None})
    with pytest.raises(NbkitError, match="a template model for HC, AD or both"):
        InBrainSyn(templates={})
    with pytest.raises(NbkitError, match="Did you mean 'transport'"):
        model.variant(transpot="full")


def test_defaults_are_published_and_profiles_only_change_sizes():
    assert (Config().transport, Config().velocity_mm) == ("half", 2.0)
    assert Config.for_profile("paper") == Config()
    for profile in ("smoke", "laptop"):
        small = Config.for_profile(profile)
        names = ("levels_mm", "iterations", "velocity_mm", "change_step", "margin_years")
        sizes = {k: getattr(small, k) for k in names}
        assert Config().changed(**sizes) == small


def test_the_scan_is_never_resampled_on_the_way(model, ball, monkeypatch):
    """Only templates pass through an affine; the original is read by registration and by the one final warp."""
    seen = []
    real = inbrainsyn.apply_affine
    monkeypatch.setattr(inbrainsyn, "apply_affine", lambda v, m, **o: seen.append(v) or real(v, m, **o))
    fresh = InBrainSyn(SETTINGS.changed(iterations=(4, 3)), templates=model.templates)
    fresh.age_ranges = model.age_ranges
    image = fresh.futures(ball, [66.0], "HC").images()[0]
    template = fresh.templates["HC"].template(64.0).data
    assert len(seen) == 1 and torch.equal(seen[0].data, template)
    assert len(image.history) == len(ball.image("T1w").history) + 1
    field = Displacement(fresh.futures(ball, [66.0], "HC").displacements)
    assert torch.equal(image.data, warp(ball.image("T1w").data[None], field, affine=AFFINE)[0])
