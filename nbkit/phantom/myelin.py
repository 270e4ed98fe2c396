"""One subject of the myelin phantom: latent maps of myelin, water and axons, and what MR and PET show of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nbkit.core.seeds import numpy_generator
from nbkit.core.volume import Volume
from nbkit.geometry.warp import resample
from nbkit.phantom import pet
from nbkit.phantom.acquisition import Protocol, acquire, draw_acquisition, integrate, rigid
from nbkit.phantom.anatomy import averaged, draw_anatomy, load_template, place_on_grid, volume_growth
from nbkit.phantom.contrast import TISSUES, brightest, nominal_tissues, signal
from nbkit.phantom.lesion_myelin import LATENTS, draw_course, unchanged
from nbkit.phantom.lesions import draw_lesions, place_lesions
from nbkit.phantom.ms import Grid, smooth_noise
from nbkit.phantom.myelin_people import Person
from nbkit.phantom.parameters import Parameters, load_parameters
from nbkit.phantom.tracts import template_coherence

CONTRASTS = ("T1w", "MTR", "FA", "RD", "AD", "DVR")
MASKS = ("brain", "lesions", "nawm", "wm", "gm", "csf", "ventricles")
TRUTH = ("myelin", "demyelinated", "remyelinated", "DVR")
SESSIONS = ("t0", "t1")
ACQUIRED = ("DVR", "MTR", "RD", "AD")
_FIELDS = ("myelin", "water", "axons", "tracer")


@dataclass(frozen=True, eq=False)
class Head:
    """The anatomy of one person, simulated or real.

    Parameters
    ----------
    tissues : Volume
        (4, X, Y, Z) float: shares of GM, WM (lesions included), CSF and ventricles, already averaged over the voxels
        of the grid that images are wanted on.
    lesions : Volume
        Integer: 0 outside, i + 1 in lesion i; in the world of `tissues`, on any grid.
    place : callable
        ``place(*maps, shape=, affine=)``: maps of that world on the subject's grid, channels one after another.
    coherence : Volume, optional
        Anisotropy of white matter over its mean (:mod:`nbkit.phantom.tracts`); None for the mean everywhere.
    """

    tissues: Volume
    lesions: Volume
    place: Callable[..., Volume]
    coherence: Volume | None = None


@dataclass(frozen=True, eq=False)
class Visit:
    """One session on one grid: images (:data:`CONTRASTS`), masks (:data:`MASKS`), truth (:data:`TRUTH`).

    `noise_free` is what was acquired (:data:`ACQUIRED`) before noise was added: resolution, partial volume and pose are
    those of the images.
    """

    images: Mapping[str, Volume]
    masks: Mapping[str, Volume]
    truth: Mapping[str, Volume]
    noise_free: Mapping[str, Volume]


def phantom_head(person: Person, *, grid: Grid, seed: int, parameters: Parameters) -> Head:
    """A random diffeomorphism of the MNI152 templates, with lesions placed in its white matter."""
    template = load_template(load_parameters())
    rng = {stage: numpy_generator(seed, "myelin_phantom", person.id, stage) for stage in ("anatomy", "lesions")}
    anatomy = draw_anatomy(rng["anatomy"], template, patient=person.diagnosis == "MS", parameters=parameters)
    lesions = Volume(torch.zeros(template.fractions.shape, dtype=torch.int16), template.fractions.affine)
    if person.lesions:
        draw = draw_lesions(rng["lesions"], person.load_ml, person.lesions, parameters=parameters)
        lesions = place_lesions(draw, template, volume_growth(anatomy), parameters=parameters).labels

    def place(*maps: Volume, shape: tuple[int, int, int], affine: np.ndarray) -> Volume:
        return place_on_grid(*maps, anatomy=anatomy, shape=shape, affine=affine)

    tissues = averaged(template, grid.working_spacing(parameters))
    return Head(tissues, lesions, place, template_coherence(template, parameters))


def simulate(
    person: Person, head: Head, *, grid: Grid, seed: int, parameters: Parameters, changed: bool = True
) -> tuple[dict[str, Visit], dict[str, Any]]:
    """Simulate the visits of one person; the same person, head, grid and seed give the same images in any order.

    Parameters
    ----------
    person : Person
        Has a second visit unless ``months`` is None.
    head : Head
    grid : Grid
    seed : int
    parameters : Parameters
    changed : bool
        False: at t1 only noise and pose differ from t0; t0 is the same either way.

    Returns
    -------
    visits : dict of str to Visit
        "t0" and perhaps "t1". Images are float32 (1, X, Y, Z), 0 outside the brain: MTR in pu, RD and AD in
        1e-3 mm²/s, FA and DVR without unit, T1w in scanner units.
    facts : dict
        JSON-able: ``course``, what would happen (:class:`nbkit.phantom.lesion_myelin.LesionCourse`, None without
        lesions), ``changed``, ``load_ml``, ``lesions``, ``age``, ``months``.
    """
    rng = numpy_generator(seed, "myelin", person.id, "latents")
    course = draw_course(rng, head.lesions, person.rates, parameters=parameters, months=person.months)
    lesions = Volume(torch.zeros(3 + 2 * len(LATENTS), 2, 2, 2), head.lesions.affine)
    if course is not None:
        lesions = course.maps if changed else unchanged(course.maps)
    maps = _placed(head, lesions, grid, parameters)
    base, fields = _baseline(rng, person, parameters), _texture(rng, maps, parameters)
    gains = {name: float(np.exp(rng.normal(0, parameters[f"between.{name}"]))) for name in ACQUIRED}
    masks = _masks(maps, grid, parameters)
    latents = [_latents(maps, base, session) for session in range(2)]
    visits = {}
    for number, session in enumerate(SESSIONS if person.months is not None else SESSIONS[:1]):
        effects = _effects(maps, latents[number], fields, gains, parameters)
        scanner = _Scanner(grid, (seed, "myelin", person.id, session), parameters)
        images, noise_free = _images(maps, effects, latents[number], masks["brain"], scanner)
        truth = _truth(maps, effects["DVR"], masks, latents[: number + 1], parameters)
        visits[session] = Visit(images, masks, truth, noise_free)
    load = float(torch.minimum(maps.data[4], maps.data[1]).sum(dtype=torch.float64)) * maps.voxel_volume / 1000
    return visits, {
        "course": course and course.facts, "changed": changed, "load_ml": round(load, 4),
        "lesions": int(torch.unique(head.lesions.data).numel() - 1), "age": person.age, "months": person.months,
    }


def _placed(head: Head, lesions: Volume, grid: Grid, parameters: Parameters) -> Volume:
    """Channels GM, WM, CSF, ventricles, lesion, sums over lesion of lost, water, axons at t0 and at t1; oedema at t0
    and t1; coherence.
    """
    shape, affine = grid.working(parameters)
    widths = [size / own for size, own in zip(np.diag(affine)[:3], lesions.spacing, strict=True)]
    margin = Volume(torch.nn.functional.pad(lesions.data, (4,) * 6), lesions.affine @ rigid((0, 0, 0), (-4,) * 3))
    mean = margin.with_data(integrate(margin.data[None], widths)[0], "averaged")
    coherence = head.coherence or head.tissues.with_data(torch.ones_like(head.tissues.data[:1]))
    return head.place(head.tissues, mean, coherence, shape=shape, affine=affine)


def _baseline(rng: np.random.Generator, person: Person, parameters: Parameters) -> dict[str, float]:
    """Latents of white matter outside lesions: 0 in controls, a little in patients."""
    lost = 1 - parameters["state.nawm"] + rng.normal(0, parameters["state.nawm_sd"])
    water = rng.normal(*parameters["latent.nawm_water"])
    if person.diagnosis != "MS":
        return dict.fromkeys(LATENTS, 0.0)
    axons = parameters["latent.axon_slope"] * lost
    return {name: max(float(v), 0.0) for name, v in zip(LATENTS, (lost, water, axons), strict=True)}


def _texture(rng: np.random.Generator, maps: Volume, parameters: Parameters) -> dict[str, torch.Tensor]:
    """Smooth standard normal fields (X, Y, Z) on the grid of `maps`; drawn on one grid for every profile."""
    size = {"spacing": parameters["texture.spacing"], "scale": parameters["texture.scale"]}
    smooth, left = smooth_noise(rng, len(_FIELDS), **size, parameters=parameters)
    fine = resample(smooth.with_data(smooth.data / left), maps.shape, maps.affine, padding="border").data
    return dict(zip(_FIELDS, fine, strict=True))


def _latents(maps: Volume, base: Mapping[str, float], session: int) -> dict[str, torch.Tensor]:
    """Mean latents of the white matter in every voxel (X, Y, Z), outside lesions those of `base`; and its oedema."""
    wm, lesion = maps.data[1], maps.data[4]
    share = (torch.minimum(lesion, wm) / wm.clamp(min=1e-3)).clamp(max=1)
    sums = maps.data[5 + session * len(LATENTS):][: len(LATENTS)]
    means = {
        name: (1 - share) * base[name] + share * total / lesion.clamp(min=1e-3)
        for name, total in zip(LATENTS, sums, strict=True)
    }
    return {**means, "oedema": maps.data[5 + 2 * len(LATENTS) + session]}


def _effects(
    maps: Volume, latents: Mapping[str, torch.Tensor], fields: Mapping[str, torch.Tensor],
    gains: Mapping[str, float], parameters: Parameters,
) -> dict[str, torch.Tensor]:
    """Noise-free DVR, MTR, RD and AD (X, Y, Z) of the tissue, each times the share of the voxel it fills."""
    texture = parameters.section("texture")
    gm, wm, csf = maps.data[:3]
    white = _white(latents, fields, maps.data[-1], parameters)
    effects = {}
    for name in ACQUIRED:
        p = parameters.section(f"effect.{name}")
        total = gm * (p["gm"] * (1 + texture["gm"] * fields["myelin"])) + wm * white[name]
        if name == "DVR":
            total = total * (1 + texture["tracer"] * fields["tracer"])
        effects[name] = (total + csf * p["csf"]) * gains[name]
    return effects


def _white(
    latents: Mapping[str, torch.Tensor], fields: Mapping[str, torch.Tensor], coherence: torch.Tensor,
    parameters: Parameters,
) -> dict[str, torch.Tensor]:
    """Values of white matter itself (X, Y, Z).

    Coherence multiplies AD − RD and leaves the mean diffusivity, which hardly differs between bundles (Pierpaoli 1996).
    Oedema mixes tissue with free water, which MR sees and PET does not.
    """
    texture = parameters.section("texture")
    lost = 1 - (1 - latents["lost"]) * (1 + texture["myelin"] * fields["myelin"])
    water = latents["water"] + texture["water"] * fields["water"]
    axons = latents["axons"] + texture["axons"] * fields["axons"]
    white = {}
    for name in ACQUIRED:
        p = parameters.section(f"effect.{name}")
        white[name] = p["wm"] + p["myelin"] * lost + p["water"] * water + p["axons"] * axons
    more = (white["AD"] - white["RD"]) * (coherence - 1)
    white |= {"RD": white["RD"] - more / 3, "AD": white["AD"] + 2 * more / 3}
    fluid = {name: torch.full_like(lost, parameters[f"effect.{name}.csf"]) for name in ACQUIRED if name != "DVR"}
    return white | {name: torch.lerp(white[name], still, latents["oedema"]) for name, still in fluid.items()}


@dataclass(frozen=True, eq=False)
class _Scanner:
    """What the images of one session share; `seeds` are followed by the name of the contrast."""

    grid: Grid
    seeds: tuple
    parameters: Parameters


def _images(
    maps: Volume, effects: Mapping[str, torch.Tensor], latents: Mapping[str, torch.Tensor], brain: Volume,
    scanner: _Scanner,
) -> tuple[dict[str, Volume], dict[str, Volume]]:
    """The contrasts of one session, FA from the noisy RD and AD; and those of :data:`ACQUIRED` without noise."""
    pairs = {name: _acquired(maps, effects[name], name, scanner) for name in ACQUIRED}
    noise_free, shot = ({name: pair[kind] for name, pair in pairs.items()} for kind in (0, 1))
    shot["RD"], shot["AD"] = (shot[n].with_data(shot[n].data.clamp(min=0.01)) for n in ("RD", "AD"))
    shot["FA"] = shot["RD"].with_data(fractional_anisotropy(shot["RD"].data, shot["AD"].data), "FA of RD and AD")
    shot["T1w"] = _t1w(maps, latents, scanner)
    stripped = [
        {name: own[name].with_data(own[name].data * brain.data, "skull-stripped") for name in names}
        for own, names in ((shot, CONTRASTS), (noise_free, ACQUIRED))
    ]
    return stripped[0], stripped[1]


def fractional_anisotropy(rd: torch.Tensor, ad: torch.Tensor) -> torch.Tensor:
    """FA of an axisymmetric tensor, |AD − RD| / √(AD² + 2 RD²), 0-1; any shape, RD and AD in one unit, positive."""
    return (ad - rd).abs() / torch.sqrt(ad**2 + 2 * rd**2)


def _acquired(maps: Volume, effect: torch.Tensor, name: str, scanner: _Scanner) -> tuple[Volume, Volume]:
    """One map at its own resolution, displaced, on the target grid, without noise and with it.

    Grids coarser than the published one average what was acquired, as blocks of voxels would.
    """
    parameters, rng = scanner.parameters, numpy_generator(*scanner.seeds, name)
    a, (shape, affine) = parameters.section("acquisition"), scanner.grid.target(parameters)
    pose = rigid(rng.normal(0, a["turn"], 3), rng.normal(0, a["shift"], 3))
    both = Volume(torch.stack([effect, maps.data[:3].sum(dim=0)]), maps.affine, maps.history)
    if name == "DVR":
        left = pet.fwhm_left(parameters["pet.fwhm"], both.spacing[0])
        value, weight = resample(pet.blur(both, left), shape, pose @ affine).data
        image = Volume(value / weight.clamp(min=0.05), affine, (f"PET resolution {parameters['pet.fwhm']:g} mm",))
        return image, _pet_noise(image, rng, parameters)
    kind = "mtr" if name == "MTR" else "dti"
    widths = [max(v / s, 1.0) for v, s in zip(a[f"{kind}_voxel"], both.spacing, strict=True)]
    value, weight = resample(both.with_data(integrate(both.data[None], widths)[0]), shape, pose @ affine).data
    image = Volume(value / weight.clamp(min=0.05), affine, ("acquired",))
    share = float(np.prod(a[f"{kind}_voxel"])) / image.voxel_volume
    return image, pet.add_noise(image, rng, sd=a[f"{name.lower()}_noise"] * min(1.0, share**0.5))


def _pet_noise(image: Volume, rng: np.random.Generator, parameters: Parameters) -> Volume:
    """Noise of the published voxel, averaged over the voxels of `image`."""
    published = float(np.prod(parameters["grid.spacing"]))
    smooth = parameters["pet.smoothing"] / pet.FWHM_PER_SD * (published / image.voxel_volume) ** (1 / 3)
    sd = parameters["pet.noise"] * (published / image.voxel_volume) ** 0.5
    return pet.add_noise(image, rng, sd=sd, smooth_voxels=smooth)


def _t1w(maps: Volume, latents: Mapping[str, torch.Tensor], scanner: _Scanner) -> Volume:
    """T1w by the equations of the MS phantom; lesion tissue to the degree of its water. For display."""
    parameters, tissues = scanner.parameters, nominal_tissues(scanner.parameters)
    gm, wm, csf, sick = (float(signal(tissues[n], "T1w", parameters=parameters)) for n in (*TISSUES, "lesion"))
    white = wm + (sick - wm) * latents["water"].clamp(0, 1)
    unit = parameters["scanner.brightest"] / brightest("T1w", parameters=parameters)
    total = Volume((maps.data[0] * gm + maps.data[1] * white + maps.data[2] * csf) * unit, maps.affine)
    a, p, settings = (parameters.section(name) for name in ("acquisition", "scanner", "contrast.T1w"))
    spread = {"turn_sd": a["turn"], "shift_sd": a["shift"], "gain_sd": parameters["variation.gain"]}
    draw = draw_acquisition(numpy_generator(*scanner.seeds, "T1w"), moved=True, **spread)
    voxel = tuple(max(v, s) for v, s in zip(settings["voxel"], total.spacing, strict=True))
    noise, inu = settings["noise"] * p["brightest"], p["inu"] * p["inu_left"]
    return acquire(total, draw, protocol=Protocol(*scanner.grid.target(parameters), voxel, noise, inu))


def _masks(maps: Volume, grid: Grid, parameters: Parameters) -> dict[str, Volume]:
    """Masks on the target grid, from tissue shares; tissue classes divide the brain."""
    shape, affine = grid.target(parameters)
    gm, wm, csf, ventricles, lesion = resample(maps.with_data(maps.data[:5]), shape, affine).data
    brain = gm + wm + csf > 0.5
    fluid = brain & (csf > wm) & (csf > gm)
    white = brain & (wm >= gm) & ~fluid
    sick = white & (torch.minimum(lesion, wm) > 0.5)
    masks = {
        "brain": brain, "lesions": sick, "nawm": white & ~sick & (lesion < 0.05), "wm": white,
        "gm": brain & ~white & ~fluid, "csf": fluid, "ventricles": fluid & (ventricles > 0.5),
    }
    return {name: Volume(masks[name], affine, ("tissue shares",)) for name in MASKS}


def _truth(
    maps: Volume, dvr: torch.Tensor, masks: Mapping[str, Volume], latents: list[Mapping[str, torch.Tensor]],
    parameters: Parameters,
) -> dict[str, Volume]:
    """What no camera adds to: myelin, lesion voxels without it now, those that have it back, and the DVR."""
    gm, wm, csf = maps.data[:3]
    filled = gm + wm + csf
    channels = [dvr / filled.clamp(min=0.05), *((gm + wm * (1 - s["lost"])) / filled.clamp(min=0.05) for s in latents)]
    states = [1 - s["lost"] for s in latents]
    brain, sick = masks["brain"], masks["lesions"]
    still = resample(maps.with_data(torch.stack([*channels, *states])), brain.shape, brain.affine).data[:, None]
    bare = [sick.data & (s < parameters["state.cut"]) for s in still[1 + len(latents):]]
    found = {
        "myelin": still[len(latents)].clamp(0, 1) * brain.data, "demyelinated": bare[-1],
        "remyelinated": bare[0] & ~bare[-1], "DVR": still[0] * brain.data,
    }
    return {name: Volume(found[name], brain.affine, ("truth",)) for name in TRUTH}
