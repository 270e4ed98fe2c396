"""FDG-PET of three stages of Alzheimer's disease: uptake by region, atrophy that goes with it, and the scanner.

A person is made from a donor, the template or the label map of a real head: sizes of structures and a random
diffeomorphism move its regions, their uptake is summed, blurred and divided by that of the cerebellum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import truncnorm

from nbkit.core.checks import known, require
from nbkit.core.protocols import Scan, Subject
from nbkit.core.seeds import numpy_generator
from nbkit.core.volume import Volume
from nbkit.data.lazy import Shelf
from nbkit.data.pet_slices import CONTRAST, STAGES
from nbkit.geometry.flow import Velocity
from nbkit.geometry.warp import resample
from nbkit.phantom.acquisition import Box, box_around
from nbkit.phantom.ageing import Participant
from nbkit.phantom.anatomy import Anatomy, draw_anatomy, load_template, place_on_grid
from nbkit.phantom.growth import velocities_for
from nbkit.phantom.longitudinal import Plan, ageing_parameters, draw_head, draw_state, usual_size
from nbkit.phantom.parameters import Parameters, load_parameters
from nbkit.phantom.pet import FWHM_PER_SD, add_noise, blur, fwhm_left, noise_left
from nbkit.phantom.regions import FLUID, Regions, fill_skull, sided, template_maps
from nbkit.phantom.study import facts_of, half, store, stored

FDG_PARAMETERS = Path(__file__).with_name("fdg_parameters.toml")
GRIDS = {
    "smoke": (4.0, (40, 48, 40)), "laptop": (3.0, (56, 64, 56)), "overnight": (2.0, (84, 96, 84)),
    "paper": (2.0, (84, 96, 84)),
}
"""Voxel size (mm) and shape by profile: RAS boxes of 160-168 × 192 × 160-168 mm around the template's centre."""
TISSUES = ("grey", "white", "fluid")
REFERENCE = ("hindbrain", "hindbrain_white")
"""The cerebellum, whose mean uptake is 1."""
MEASURED = ("hippocampus", "lateral_ventricle")
INTENSITY = {"intensity": "uptake over the mean of the cerebellum, 0 outside the brain", "alignment": "rigid, MNI152"}
"""For the provenance of cohorts."""
_OWN = ("lobe.", "structure.")


@dataclass(frozen=True)
class Patient:
    """Who is scanned: age in years, stage CN, MCI or AD."""

    id: str
    sex: str
    age: float
    stage: str


@dataclass(frozen=True, eq=False)
class Donor:
    """An anatomy that people are made from, in the template's world.

    Parameters
    ----------
    name : str
    age : float or None
        At which its structures have the sizes they have; None for the template.
    regions : Regions
        Maps of all structures; their sum fills the skull.
    growth : mapping of str to Velocity
        By row of the table of rates: field (1, 3, X, Y, Z) in mm that multiplies the volumes of its structures by e,
        to first order, on the coarse grid of :class:`nbkit.phantom.anatomy.Anatomy`.
    """

    name: str
    age: float | None
    regions: Regions
    growth: Mapping[str, Velocity]


@dataclass(frozen=True, eq=False)
class FdgScan:
    """A simulated scan.

    Parameters
    ----------
    image : Volume
        Uptake over the mean of the cerebellum, float32, 0 outside the brain.
    masks : mapping of str to Volume
        "brain" (inside of the skull), "gm" (grey matter fills most of the voxel), "reference" (cerebellum).
    facts : mapping
        JSON-able: what was drawn, and mm³ of :data:`MEASURED` structures.
    noise_free : Volume, optional
        The image without noise: blur and partial volume are in it.
    """

    image: Volume
    masks: Mapping[str, Volume]
    facts: Mapping[str, Any]
    noise_free: Volume | None = None


@lru_cache(maxsize=1)
def fdg_parameters() -> Parameters:
    """The numbers of the FDG phantom over those of the ageing phantom; lobes and structures are its own."""
    inherited = {n: e for n, e in ageing_parameters().entries.items() if not n.startswith(_OWN)}
    return Parameters({**inherited, **load_parameters(FDG_PARAMETERS).entries})


def fdg_grid(profile: str) -> Box:
    """Shape and affine of a profile's scans, in the template's world."""
    return box_around(fdg_parameters()["grid.centre"], *GRIDS[known(profile, GRIDS, "fdg_grid: profile")])


def roster(profile: str, *, seed: int) -> tuple[Patient, ...]:
    """Controls, then MCI, then AD, with the published counts and range of ages.

    Ages are the even quantiles of a normal distribution cut to the range, in random order; counts of sexes are exact.
    """
    c = fdg_parameters().section("cohort")
    people: list[Patient] = []
    for k, (stage, prefix) in enumerate(zip(STAGES, ("nc", "mci", "ad"), strict=True)):
        rng, n = numpy_generator(seed, "fdg", "roster", stage), c["smoke" if profile == "smoke" else "counts"][k]
        mean, sd = c["age_mean"][k], c["age_sd"][k]
        low, high = ((limit - mean) / sd for limit in c["age_range"])
        ages = truncnorm.ppf((rng.permutation(n) + rng.uniform(size=n)) / n, low, high, loc=mean, scale=sd)
        women = round(n * c["women"][k])
        sexes = rng.permutation(["F"] * women + ["M"] * (n - women))
        rows = zip(ages, sexes, strict=True)
        people += [Patient(f"{prefix}{i:03d}", str(s), round(float(a), 1), stage) for i, (a, s) in enumerate(rows, 1)]
    return tuple(people)


@lru_cache(maxsize=2)
def template_donor(spacing: int) -> Donor:
    """The template as a donor, its maps on voxels of `spacing` whole mm; seconds once per process, then kept."""
    coarse = template_regions(fdg_parameters()["basis.spacing"])
    return Donor("template", None, template_regions(spacing), growth_fields(coarse))


@lru_cache(maxsize=2)
def template_regions(spacing: int) -> Regions:
    """Regions of the template, with the cerebellum's white matter as a structure of its own."""
    template = load_template(load_parameters())
    filled, tissues = fill_skull(*template_maps(template, fdg_parameters(), spacing=spacing))
    maps, (gm, wm, _) = dict(zip(filled.names, filled.maps.data, strict=True)), tissues.data
    share = wm / (gm + wm).clamp(min=1e-6)
    for grey, white in zip(*(sided([name]) for name in REFERENCE), strict=True):
        maps[white] = maps[grey] * share
        maps[grey] = maps[grey] - maps[white]
    return Regions(filled.names, filled.maps.with_data(torch.stack([maps[name] for name in filled.names])))


def growth_fields(regions: Regions) -> dict[str, Velocity]:
    """Field of every row of the table of rates (:class:`Donor`), from regions on a coarse grid in template world.

    A small change of the row's structures alone is brought about by :func:`nbkit.phantom.growth.velocities_for`, and
    its field divided by the logarithm of the change; fluid takes up the difference. Sums of the fields change several
    rows at once, larger changes only roughly: what comes out is measured in every person.
    """
    parameters = fdg_parameters()
    basis, merged = parameters.section("basis"), _by_row(regions)
    head = draw_anatomy(
        np.random.default_rng(0), load_template(load_parameters()), patient=False, parameters=parameters
    )
    steps = {row: basis["fluid_step" if row == "lateral_ventricle" else "step"] for row in merged.names if row != FLUID}
    changes = [{name: step * (name == row) for name in merged.names} for row, step in steps.items()]
    fields, found = {}, velocities_for(merged, changes, tolerance=basis["tolerance"])
    for (row, step), velocity in zip(steps.items(), found, strict=True):
        field = regions.maps.with_data(velocity[0] / np.log1p(step))
        fields[row] = Velocity(resample(field, tuple(head.velocity.shape[2:]), head.affine).data[None])
    return fields


def _by_row(regions: Regions) -> Regions:
    """Regions merged to the rows of the table of rates, the sides together."""
    rows = fdg_parameters().section("structure") | {FLUID: FLUID}
    own = [rows[name] for name in regions.structures]
    names = tuple(dict.fromkeys(own))
    maps = torch.stack([sum(m for m, o in zip(regions.maps.data, own, strict=True) if o == name) for name in names])
    return Regions(names, regions.maps.with_data(maps))


def draw_uptake(patient: Patient, rng: np.random.Generator) -> tuple[dict[str, float], dict[str, float]]:
    """Uptake of every structure over that of white matter, and what was drawn for it.

    Normal uptake, times the pattern of the stage as deep as the person has it, times the effect of age, times a spread
    of the forebrain as a whole and of every structure by itself.

    Returns
    -------
    levels : dict of str to float
        By structure.
    facts : dict of str to float
        ``severity``, ``forebrain``, and ``factor.<structure>``: uptake over that of a mean control of 75 years.
    """
    p = fdg_parameters()
    vary, ageing, pattern = p.section("variety"), p.section("age_effect"), p.section(f"factor.{patient.stage}")
    severity = float(np.clip(rng.normal(1, vary["severity"]), 0, 2))
    forebrain = float(np.exp(rng.normal(0, vary["forebrain"])))
    older = 1 + ageing["rate"] * (patient.age - ageing["age"])
    levels, facts = {}, {"severity": severity, "forebrain": forebrain}
    for name, (tissue, normal) in p.section("uptake").items():
        factor = 1 - severity * (1 - pattern.get(name, 1.0))
        factor *= older if name in ageing["structures"] else 1.0
        factor *= 1.0 if name in (*REFERENCE, "brainstem") else forebrain
        factor *= float(np.exp(rng.normal(0, vary["region"])))
        facts[f"factor.{name}"] = factor
        levels[name] = p[f"level.{tissue}"] * normal * factor
    return levels, facts


def size_changes(patient: Patient, donor_age: float | None, rng: np.random.Generator) -> dict[str, float]:
    """Logarithm of what the structures of every row of rates grow by, from the donor to the person.

    As in the ageing phantom: normal size at the age, loss beyond controls by stage, spread of the ventricles. Above 90
    years the anatomy is that of 90, where the norms end.
    """
    p = fdg_parameters()
    name = dict(zip(STAGES, p["cohort.atrophy"], strict=True))[patient.stage]
    age = min(patient.age, p["cohort.oldest_norm"])
    change = draw_state(Plan(Participant(patient.id, patient.sex, age, name), (age,)), p, rng)
    usual = dict.fromkeys(change, 1.0) if donor_age is None else usual_size((donor_age,), p)
    rows = p.section("structure")
    grown = {s: np.log((1 + change[s]) / usual[s]) for s in rows}
    return {row: float(np.mean([grown[s] for s in rows if rows[s] == row])) for row in rows.values()}


def stranger(patient: Patient, rng: np.random.Generator) -> Anatomy:
    """A random head of the person's sex, upright and centred: for the template as a donor."""
    return draw_head(rng, patient.sex, template=load_template(load_parameters()), parameters=fdg_parameters())


def relative(patient: Patient, rng: np.random.Generator) -> Anatomy:
    """A random flow of half the size without change of scale: for a real head as a donor."""
    p = fdg_parameters()
    drawn = draw_anatomy(rng, load_template(load_parameters()), patient=False, parameters=p)
    return replace(drawn, velocity=Velocity(drawn.velocity * p["real.amplitude"]), pose=np.eye(4))


def simulate(patient: Patient, donor: Donor, head: Anatomy, *, profile: str, seed: int) -> FdgScan:
    """The scan of a person; the same person, donor, head, profile and seed give the same image in any order.

    Parameters
    ----------
    patient : Patient
    donor : Donor
    head : Anatomy
        Of :func:`stranger` or :func:`relative`; the person's sizes of structures are added to its flow.
    profile : {"smoke", "laptop", "overnight", "paper"}
    seed : int
    """
    known(patient.stage, STAGES, f"{patient.id}: stage")
    shape, affine = fdg_grid(profile)
    levels, facts = draw_uptake(patient, numpy_generator(seed, patient.id, "uptake"))
    grown = size_changes(patient, donor.age, numpy_generator(seed, patient.id, "sizes"))
    velocity = head.velocity + sum(change * donor.growth[row] for row, change in grown.items())
    anatomy = replace(head, velocity=Velocity(velocity))
    placed = place_on_grid(_channels(donor.regions, levels), anatomy=anatomy, shape=shape, affine=affine)
    maps = resample(placed, shape, affine)
    image, masks = _scanned(maps, numpy_generator(seed, patient.id, "noise"))
    measured = dict(zip(MEASURED, maps.totals[5:], strict=True))
    return FdgScan(image, masks, {
        "stage": patient.stage, "donor": donor.name, **facts, "fwhm_mm": fdg_parameters()["scanner.fwhm"],
        "volumes_mm3": measured, "size_change": {row: float(np.exp(c)) for row, c in grown.items()},
    }, _scanned(maps, None)[0])


def _channels(regions: Regions, levels: Mapping[str, float]) -> Volume:
    """Uptake, grey, white, fluid, reference region, then :data:`MEASURED` structures (7, X, Y, Z)."""
    tissue = {name: kind for name, (kind, _) in fdg_parameters().section("uptake").items()}
    names = regions.structures
    weights = [[levels[s] for s in names]]
    weights += [[float(tissue[s] == kind) for s in names] for kind in TISSUES]
    weights += [[float(s in REFERENCE) for s in names], *([float(s == m) for s in names] for m in MEASURED)]
    data = torch.einsum("cr,rxyz->cxyz", torch.tensor(weights), regions.maps.data)
    return regions.maps.with_data(data, "uptake and tissues")


@lru_cache(maxsize=3)
def mean_control(profile: str) -> FdgScan:
    """The template itself with the mean uptake of controls and no noise: what scans of others are aligned to."""
    (shape, affine), parameters = fdg_grid(profile), fdg_parameters()
    regions = template_regions(round(affine[0, 0]))
    levels = {name: parameters[f"level.{t}"] * normal for name, (t, normal) in parameters.section("uptake").items()}
    return FdgScan(*_scanned(resample(_channels(regions, levels), shape, affine), None), {})


def _scanned(maps: Volume, rng: np.random.Generator | None) -> tuple[Volume, dict[str, Volume]]:
    """Uptake ratio as the scanner shows it, and masks, from :func:`_channels` on its grid; None adds no noise."""
    p = fdg_parameters().section("scanner")
    grey, white, fluid, cerebellum = maps.data[1:5]
    brain, reference = grey + white + fluid > 0.5, cerebellum > p["nearest"]
    require(
        bool(reference.any()), "simulate: donor", expected="a cerebellum inside the grid", found="none",
        remedy="Check that the label map covers the cerebellum.",
    )
    spacing = maps.spacing[0]
    blurred = blur(maps.with_data(maps.data[:1]), fwhm_left(p["fwhm"], spacing))
    ratio = blurred.with_data(blurred.data / blurred.data[0, reference].mean())
    width = p["noise_fwhm"] / FWHM_PER_SD / spacing
    noise = {"sd": p["noise"] / noise_left(width), "smooth_voxels": width}
    noisy = ratio if rng is None else add_noise(ratio, rng, **noise)
    data = noisy.data.clamp(min=0) * brain
    masks = {"brain": brain, "gm": (grey > white) & (grey > fluid) & brain, "reference": reference & brain}
    image = noisy.with_data(data / data[0, reference].mean(), f"{CONTRAST} ratio to the cerebellum, skull-stripped")
    return image, {name: maps.with_data(mask[None], name) for name, mask in masks.items()}


def write_scan(folder: Path, patient: Patient, scan: FdgScan) -> None:
    """Write images (16-bit floats: what they lose is a fiftieth of the noise), masks and facts of one person."""
    volumes = {"image": {CONTRAST: half(scan.image)}, "mask": scan.masks}
    quiet = {} if scan.noise_free is None else {"noise_free": {CONTRAST: half(scan.noise_free)}}
    store(folder, volumes | quiet, scan.facts, file=patient.id)


def read_subject(folder: Path, patient: Patient, shelf: Shelf, **covariates: Any) -> tuple[Subject, dict[str, Any]]:
    """The subject with one scan, and the facts about it, that :func:`write_scan` wrote.

    :func:`with_noise_free` adds the image without noise.
    """
    images, masks = (
        stored(folder, kind, names, shelf, file=patient.id)
        for kind, names in (("image", (CONTRAST,)), ("mask", ("brain", "gm", "reference")))
    )
    scan = Scan(patient.id, "01", patient.age, images, masks, diagnosis=patient.stage)
    return Subject(patient.id, patient.sex, patient.stage, (scan,), covariates), facts_of(folder, file=patient.id)


def with_noise_free(facts: Mapping[str, Any], folder: Path, patient: Patient, shelf: Shelf) -> dict[str, Any]:
    """The truth about a person: the facts, and by session the image without noise, loaded when looked at."""
    return {**facts, "noise_free": {"01": stored(folder, "noise_free", (CONTRAST,), shelf, file=patient.id)}}


def stage_levels(structures: Sequence[str]) -> dict[str, dict[str, float]]:
    """Mean uptake by stage and structure over that of controls, as planted; spared structures have 1.

    Raises
    ------
    NbkitError
        For a structure without uptake of its own.
    """
    p = fdg_parameters()
    names = [known(s, (n for n in p.section("uptake") if n != FLUID), "stage_levels: structures") for s in structures]
    return {stage: {n: p.section(f"factor.{stage}").get(n, 1.0) for n in names} for stage in STAGES}
