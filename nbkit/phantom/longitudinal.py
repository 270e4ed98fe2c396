"""A person's visits: anatomy at the first age, a course of ageing, and a T1w image of every visit.

Tissue is carried along the flow first; signal, inhomogeneity and noise are made from what arrives, so that noise is
never warped and no two visits share it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeVar

import numpy as np
import torch

from nbkit.core.checks import NbkitError, known
from nbkit.core.seeds import numpy_generator
from nbkit.core.volume import Volume
from nbkit.core.windows import filter_separable, gaussian_kernel
from nbkit.geometry.flow import Velocity, expv
from nbkit.geometry.warp import warp
from nbkit.phantom.acquisition import Box, Protocol, acquire, box_around, draw_acquisition
from nbkit.phantom.ageing import (
    Participant, Rates, Trajectory, Visit, age_factor, draw_lasting, draw_load, draw_scores, log_normal, norm_change,
    rates_at, simulate_trajectory,
)
from nbkit.phantom.anatomy import Anatomy, Template, draw_anatomy, volume_growth
from nbkit.phantom.contrast import TISSUES, drawn_tissues, sensitivity, signal
from nbkit.phantom.growth import velocity_for
from nbkit.phantom.norms import norm_ratio
from nbkit.phantom.parameters import MS_PARAMETERS, Parameters, load_layers
from nbkit.phantom.regions import AGEING_PARAMETERS, Regions, carried, place, refilled

log = logging.getLogger(__name__)
T = TypeVar("T")

CONTRAST = "T1w"
DEMENTIA = "AD"
"""What a converter's diagnosis becomes."""
GRIDS = {
    "smoke": (5.0, (32, 40, 32)), "laptop": (3.0, (56, 64, 56)), "overnight": (2.0, (88, 96, 88)),
    "paper": (1.5, (120, 144, 120)),
}
"""Voxel size (mm) and shape by profile: RAS boxes around the template's centre, every side divisible by 8."""
_DRAWS = 8


@dataclass(frozen=True)
class Plan:
    """Who is followed, at which ages (years, rising), and the age at which a converter's dementia begins."""

    person: Participant
    ages: tuple[float, ...]
    onset_age: float | None = None

    def diagnosis_at(self, age: float) -> str:
        """Diagnosis of a visit."""
        demented = self.onset_age is not None and age >= self.onset_age
        return DEMENTIA if demented else self.person.diagnosis


@dataclass(frozen=True, eq=False)
class FollowUp:
    """The course that a plan took: rates before and after the onset, how many draws it took, and the load behind it."""

    plan: Plan
    trajectory: Trajectory
    rates: Rates
    rates_after_onset: Rates | None
    draws: int
    load: float = 0.0


@lru_cache(maxsize=1)
def ageing_parameters() -> Parameters:
    """Every number of the ageing simulator over those of the MS phantom, which has anatomy, tissues and scanner."""
    return load_layers(MS_PARAMETERS, AGEING_PARAMETERS)


def grid_for(profile: str, parameters: Parameters) -> Box:
    """Shape and affine of a profile's images, in the template's world."""
    return box_around(parameters["grid.centre"], *GRIDS[known(profile, GRIDS, "grid_for: profile")])


def draw_head(rng: np.random.Generator, sex: str, *, template: Template, parameters: Parameters) -> Anatomy:
    """Draw a shape and the size of the head; upright and centred, as after rigid registration to the template."""
    drawn = draw_anatomy(rng, template, patient=False, parameters=parameters)
    litres = parameters[f"head.{sex}"] * np.exp(rng.normal(0, parameters["head.spread"]))
    upright = replace(drawn, pose=np.eye(4))
    inside = template.fractions.data.sum(dim=0, keepdim=True)
    growth = volume_growth(upright)
    still = torch.zeros(1, 3, *growth.shape)
    share = warp(inside[None], still, affine=growth.affine, image_affine=template.fractions.affine)[0]
    unscaled = float((growth.data * share).sum() / share.sum() * inside.sum()) * template.fractions.voxel_volume
    pose, centre = np.eye(4), np.array(parameters["grid.centre"])
    pose[:3, :3] *= (unscaled / (litres * 1e6)) ** (1 / 3)
    pose[:3, 3] = centre - pose[:3, :3] @ centre
    return replace(upright, pose=pose)


def draw_state(
    plan: Plan, parameters: Parameters, rng: np.random.Generator, *, lasting: np.ndarray | None = None
) -> dict[str, float]:
    """Change of every structure (1) from the templates to the person at the first visit.

    Three factors: the normal size (:func:`usual_size`); what the person has lost beyond controls over some years; and,
    for structures whose size differs between people far more than heads do, a spread. Those years passed at the mean
    rates of the diagnosis, or at the person's own where the pace that lasts is given
    (:func:`nbkit.phantom.ageing.draw_lasting`).
    """
    well = parameters.section("rate.CN")
    ill = _paces(plan.person.diagnosis, parameters, lasting)
    years = rng.uniform(*parameters[f"history.{plan.person.diagnosis}"])
    scores = {row: rng.standard_normal() * sd for row, sd in parameters.section("spread").items()}
    usual, least = usual_size(plan.ages, parameters), parameters["lasting.least"]
    return {
        name: usual[name] * max(1 + (ill[row] - well[row][0]) * years / 100, least) * np.exp(scores.get(row, 0.0)) - 1
        for name, row in parameters.section("structure").items()
    }


def _paces(diagnosis: str, parameters: Parameters, lasting: np.ndarray | None) -> dict[str, float]:
    """Yearly change (%) before baseline, by row of rates."""
    rows = parameters.section(f"rate.{diagnosis}")
    if lasting is None:
        return {row: mean for row, (mean, _) in rows.items()}
    share = parameters["lasting.share"]
    return {row: log_normal(*rows[row], score, share=share) for row, score in zip(rows, lasting, strict=True)}


def usual_size(ages: Sequence[float], parameters: Parameters) -> dict[str, float]:
    """Size of every structure at the first of `ages`, over that of the templates, of a control with the mean rates.

    Such a control meets the norm half-way through the follow-up: norms pool visits of all kinds, and fall more slowly
    with age than a person does. They are the medians of the population where the table has the structure, else the
    slopes of the parameter file.
    """
    half = (ages[-1] - ages[0]) / 2
    norms, pace = norm_change(ages[0] + half, parameters), age_factor(ages[0], "CN", parameters=parameters) * half / 100
    size = {}
    for name, row in parameters.section("structure").items():
        normal = norm_ratio(name, ages[0] + half) or 1 + norms[name]
        size[name] = normal * (1 - pace * parameters[f"rate.CN.{row}"][0])
    return size


def person_at_first_visit(
    plan: Plan, maps: tuple[Regions, Volume], *, grid: Box, template: Template, parameters: Parameters, seed: int
) -> tuple[Regions, Volume]:
    """Regions and tissues (GM, WM, CSF) of a person at the first age of the plan, on `grid`, skull filled.

    A size that no flow on this grid can bring about is drawn again, the later half of times with half the pace before
    baseline: on voxels of 5 mm one person in some hundred of those with dementia needs it, on 3 mm nobody did.

    Parameters
    ----------
    plan : Plan
    maps : (Regions, Volume)
        Of the template (:func:`nbkit.phantom.regions.template_maps`).
    grid : (shape, affine)
    template, parameters, seed
    """
    shape, affine = grid
    rng = numpy_generator(seed, plan.person.id, "anatomy")
    head = draw_head(rng, plan.person.sex, template=template, parameters=parameters)
    placed, tissues = place(*maps, head, shape=shape, affine=affine)
    young, tissues = Regions(placed.names, _pasted(placed.maps, shape, affine)), _pasted(tissues, shape, affine)

    def velocity(draw: int) -> Velocity:
        rng = numpy_generator(seed, plan.person.id, "state", draw)
        lasting = _lasting(plan, parameters, seed) / (1 if draw < _DRAWS // 2 else 2)
        change = draw_state(plan, parameters, rng, lasting=lasting)
        return velocity_for(young, change, tolerance=parameters["cohort.tolerance"])

    return carried(young, tissues, expv(_redrawn(velocity)[0], affine=affine))


def _pasted(cropped: Volume, shape: tuple[int, int, int], affine: np.ndarray) -> Volume:
    """A volume that was cropped from the grid, on the whole grid; zeros elsewhere."""
    whole = torch.zeros(cropped.data.shape[0], *shape, dtype=cropped.data.dtype)
    start = np.round(np.linalg.inv(affine) @ cropped.affine[:, 3])[:3].astype(int)
    box = tuple(slice(int(s), int(s) + n) for s, n in zip(start, cropped.shape, strict=True))
    whole[(slice(None), *box)] = cropped.data
    return Volume(whole, affine, cropped.history)


def follow(plan: Plan, regions: Regions, *, parameters: Parameters, seed: int) -> FollowUp:
    """Draw the rates of a person and age the regions of the first visit along them.

    A converter keeps the standing among people of the diagnosis: at the onset the same scores are read in the table
    of dementia, and no structure slows down. Rates that no flow on this grid can bring about without folds are
    drawn again.

    Raises
    ------
    NbkitError
        If eight draws fail.
    """

    def course(draw: int) -> tuple[Trajectory, Rates, Rates | None, float]:
        rates, later, load = _draw_course(plan, parameters, seed, draw)
        onset = None if later is None else (plan.onset_age, later)
        return simulate_trajectory(regions, rates, plan.ages, onset=onset), rates, later, load

    (*found, load), draws = _redrawn(course)
    return FollowUp(plan, *found, draws, load)


def _redrawn(make: Callable[[int], T]) -> tuple[T, int]:
    """What the first draw gives that a flow can bring about, and how many draws it took."""
    for draw in range(_DRAWS):
        try:
            return make(draw), draw + 1
        except NbkitError as error:
            log.info("draw %d: %s", draw + 1, error)
            failure = error
    raise failure


def _lasting(plan: Plan, parameters: Parameters, seed: int) -> np.ndarray:
    return draw_lasting(parameters, numpy_generator(seed, plan.person.id, "lasting"))


def _draw_course(plan: Plan, parameters: Parameters, seed: int, draw: int) -> tuple[Rates, Rates | None, float]:
    """Rates before and after the onset, and load."""
    rng = numpy_generator(seed, plan.person.id, "rates", draw)
    scores = draw_scores(parameters, rng, lasting=_lasting(plan, parameters, seed))
    load = draw_load(plan.person.diagnosis, scores, parameters, rng)
    rates = rates_at(plan.person, scores, parameters)
    if plan.onset_age is None:
        return rates, None, load
    ill = rates_at(
        replace(plan.person, diagnosis=DEMENTIA, age=plan.onset_age, converter=False), scores, parameters
    )
    pace = 1 + rates.acceleration * (plan.onset_age - plan.ages[0])
    faster = {name: max(ill.yearly[name], rate * pace, key=abs) for name, rate in rates.yearly.items()}
    return rates, Rates(faster, ill.acceleration), load


def labels_of(regions: Regions) -> Volume:
    """Code of the region that fills most of each voxel inside the skull, uint8: its place in the names plus 1."""
    winner = regions.maps.data.argmax(dim=0) + 1
    inside = regions.maps.data.sum(dim=0) > 0.5
    return Volume(torch.where(inside, winner, 0).to(torch.uint8), regions.maps.affine, ("largest region",))


def brain_of(regions: Regions) -> Volume:
    """Boolean: the inside of the skull, fluid included; it does not change with age."""
    return Volume(regions.maps.data.sum(dim=0) > 0.5, regions.maps.affine, ("inside of the skull",))


def images_of(
    visits: Sequence[Visit], tissues: Volume, brain: Volume, *, parameters: Parameters, seed: int, person: str,
    noise: bool = True,
) -> list[Volume]:
    """T1w image (1, X, Y, Z) of every visit; 1 is the person's white matter, 0 outside the brain.

    Parameters
    ----------
    visits : sequence of Visit
    tissues : Volume
        GM, WM, CSF (3, X, Y, Z) at baseline; they and a texture within them are carried along.
    brain : Volume
    parameters, seed, person
        Tissue constants and texture are drawn once per person; gain, inhomogeneity and noise at every visit.
    noise : bool
        False leaves out the noise, and nothing else.
    """
    rng = numpy_generator(seed, person, "tissue")
    constants = drawn_tissues(rng, parameters)
    texture = _texture(rng, tissues, parameters)
    unit = float(signal(constants["wm"], CONTRAST, parameters=parameters))
    levels = [float(signal(constants[t], CONTRAST, parameters=parameters)) / unit for t in TISSUES]
    slopes = [sensitivity(constants[t], CONTRAST, "t1", parameters=parameters) / unit for t in ("gm", "wm")]
    images = []
    for k, visit in enumerate(visits):
        moved, pattern = refilled(visit.carry(tissues), tissues), visit.carry(texture).data
        gm, wm, csf = moved.data[:, None]
        made = levels[0] * gm + levels[1] * wm + levels[2] * csf + (slopes[0] * gm + slopes[1] * wm) * pattern
        draw_rng = numpy_generator(seed, person, "scan", k)
        images.append(_scanned(moved.with_data(made, CONTRAST), brain, draw_rng, parameters, noise))
    return images


def _texture(rng: np.random.Generator, tissues: Volume, parameters: Parameters) -> Volume:
    """Relative deviation of T1 within tissue (1, X, Y, Z), smooth over some mm."""
    kernels = tuple(gaussian_kernel(parameters["variation.texture_scale"] / s) for s in tissues.spacing)
    white = torch.from_numpy(rng.standard_normal((1, 1, *tissues.shape), dtype=np.float32))
    loss = float(np.prod([float((k**2).sum()) for k in kernels])) ** 0.5
    return tissues.with_data(filter_separable(white, kernels)[0] * (parameters["variation.texture_t1"] / loss))


def _scanned(
    made: Volume, brain: Volume, rng: np.random.Generator, parameters: Parameters, noise: bool
) -> Volume:
    """The signal as a scanner gives it after bias correction and normalisation, skull-stripped."""
    p = parameters.section("scan")
    draw = draw_acquisition(rng, moved=False, turn_sd=0.0, shift_sd=0.0, gain_sd=p["gain"])
    averaged = min(1.0, float((p["voxel"] ** 3 / made.voxel_volume) ** 0.5))
    spread = p["noise"] * averaged if noise else 0.0
    protocol = Protocol(made.shape, made.affine, made.spacing, spread, p["inu"] * p["inu_left"])
    image = acquire(made, draw, protocol=protocol)
    return image.with_data(image.data * brain.data, "skull-stripped")
