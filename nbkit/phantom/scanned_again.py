"""Real people scanned more than once, as a manifest lists them: whatever of their scans is here, on one grid."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nbkit.core.checks import NbkitError, require
from nbkit.core.config import digest
from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.data.manifest import Manifest
from nbkit.data.preprocess import Config, Source, prepare_files
from nbkit.phantom.anatomy import load_template
from nbkit.phantom.atlas import template_reference
from nbkit.phantom.longitudinal import ageing_parameters, grid_for
from nbkit.phantom.parameters import load_parameters
from nbkit.phantom.study import credits_of

log = logging.getLogger(__name__)

LEAST = 2
"""Scans of a person without which there is no change."""
_NAMED = 5
"""Of those left out, so many are named in an error; the log has all."""
Files = Mapping[str, Mapping[str, Path]]


def prepared_cohort(
    manifest: Manifest, roster: Sequence[Subject], profile: str, *, asked: Collection[str], n_jobs: int = 1,
    cache: Cache | None = None, progress: bool = True, left_out: Mapping[str, str] | None = None, **facts: Any,
) -> Cohort:
    """The people of `roster` of whom two scans or more are here: brain found, N4, white matter 1, rigid to MNI.

    Each scan is aligned by itself and interpolated once, as own scans are. Who has fewer than two scans, and a scan
    that cannot be prepared, are left out by name, with the reason, in ``provenance["left_out"]`` and the log.

    Parameters
    ----------
    manifest : Manifest
        Gives the file of each session.
    roster : sequence of Subject
        Scans with session, age and diagnosis, without images. Covariates that are lists have one value a scan.
    profile : {"smoke", "laptop", "overnight", "paper"}
        Grids of 5, 3 and 1.5 mm.
    asked : collection of str
        Of the roster, those whom `nbkit data fetch` brings by itself; the others are counted apart.
    n_jobs, cache, progress
        As for :func:`nbkit.data.preprocess.prepare_files`.
    left_out : mapping, optional
        Whom or what the roster lacks already, with the reason.
    **facts
        For the provenance; ``who``, a list of sentences, is shown where people are, after those about who is here.

    Raises
    ------
    NbkitError
        If nobody has two scans, with the command that fetches them; by file, a wrong one.
    """
    shape, affine = grid_for(profile, ageing_parameters())
    files, left_out = _located(manifest, roster), dict(left_out or {})
    known = [_with(subject, [s.session for s in subject.scans if s.session in files[subject.id]]) for subject in roster]
    enough = list(_enough(known, manifest, left_out, "here"))
    _require_people(enough, manifest, left_out)
    sources = [Source(s.id, scan.session, files[s.id][scan.session]) for s in enough for scan in s.scans]
    refused: dict[tuple[str, str], NbkitError] = {}
    made = prepare_files(
        sources, template_reference(load_template(load_parameters())), shape=shape, affine=affine,
        config=Config(alignment="rigid"), n_jobs=n_jobs, cache=cache, progress=progress, left_out=refused,
    )
    left_out |= {f"{who} {session}": f"{e.found} instead of {e.expected}" for (who, session), e in refused.items()}
    images = {(scan.subject, scan.session): scan for scan in made}
    done = [_with(s, [scan.session for scan in s.scans if (s.id, scan.session) in images]) for s in enough]
    people = [_imaged(subject, images) for subject in _enough(done, manifest, left_out, "prepared")]
    for who, reason in left_out.items():
        log.warning("%s: %s is left out: %s", manifest.name, who, reason)
    _require_people(people, manifest, left_out)
    said = [_present(manifest, people, roster, asked), *_left_out_said(left_out), *facts.pop("who", ())]
    log.info("%s: %s", manifest.name, said[0])
    roles, ages = manifest.subjects(), [[scan.age for scan in subject.scans] for subject in people]
    hashes = {f"{s.id} {c.session}": manifest.by_path[roles[s.id][c.session]].digest for s in people for c in s.scans}
    return Cohort(manifest.name, tuple(people), manifest.access, credits_of(manifest) | {
        "who": said, "left_out": left_out, "profile": profile, "data_hash": digest([hashes, ages, profile]),
        "grid": {"shape": list(shape), "spacing_mm": [abs(float(affine[i, i])) for i in range(3)]},
        "intensity": "1 = white-matter peak of the scan, 0 outside the brain",
        "alignment": "each visit by itself, rigid", **facts,
    })


def any_pair(manifest: Manifest) -> bool:
    """Whether anybody's scans are here, two or more of them (unchecked)."""
    return any(sum(manifest.find(path) is not None for path in roles.values()) >= LEAST
               for roles in manifest.subjects().values())


def _located(manifest: Manifest, roster: Sequence[Subject]) -> Files:
    """By person and session, the verified files that are here."""
    roles, wanted = manifest.subjects(), {s.id: [scan.session for scan in s.scans] for s in roster}
    found = {who: {session: manifest.locate(roles[who][session]) for session in wanted[who]} for who in wanted}
    return {who: {session: file for session, file in own.items() if file} for who, own in found.items()}


def _with(subject: Subject, sessions: Sequence[str]) -> Subject:
    """The person with some sessions, and of covariates that are lists the values of those."""
    kept = [scan.session in sessions for scan in subject.scans]
    covariates = {
        name: [v for v, keep in zip(values, kept, strict=True) if keep] if isinstance(values, list) else values
        for name, values in subject.covariates.items()
    }
    scans = tuple(scan for scan, keep in zip(subject.scans, kept, strict=True) if keep)
    return replace(subject, scans=scans, covariates=covariates)


def _enough(
    people: Sequence[Subject], manifest: Manifest, left_out: dict[str, str], state: str
) -> Iterator[Subject]:
    """Those with two scans or more; who has one is left out, who has none was never fetched."""
    roles = manifest.subjects()
    for subject in people:
        if len(subject.scans) >= LEAST:
            yield subject
        elif subject.scans or state == "prepared":
            listed = len(roles[subject.id])
            left_out[subject.id] = f"{len(subject.scans)} of {listed} scans {state}, and change needs two" + (
                f": `{_command(manifest)}` brings the others" if state == "here" else "")


def _require_people(people: Sequence[Subject], manifest: Manifest, left_out: Mapping[str, str]) -> None:
    named = [f"{who}: {reason}" for who, reason in left_out.items()]
    more = [f"and {len(named) - _NAMED} more"] if len(named) > _NAMED else []
    found = "; ".join([*named[:_NAMED], *more]) or "no scan"
    require(
        bool(people), manifest.name, expected="two scans or more of somebody", found=found,
        remedy=f"Run `{_command(manifest)}` (`--people 20` for the first twenty), or set NBKIT_MIRROR to a folder that "
        f"holds {manifest.folder}/.",
    )


def _command(manifest: Manifest) -> str:
    return f"nbkit data fetch {manifest.name}"


def _imaged(subject: Subject, images: Mapping[tuple[str, str], Scan]) -> Subject:
    new = {scan.session: images[subject.id, scan.session] for scan in subject.scans}
    scans = (replace(s, images=new[s.session].images, masks=new[s.session].masks) for s in subject.scans)
    return replace(subject, scans=tuple(scans))


def _present(
    manifest: Manifest, people: Sequence[Subject], roster: Sequence[Subject], asked: Collection[str]
) -> str:
    """How many of those whom the command brings are in the cohort, and how many others."""
    mine, others = [s for s in people if s.id in asked], [s for s in people if s.id not in asked]
    listed = sum(len(s.scans) for s in roster if s.id in asked)
    said = f"{len(mine)} of {len(asked)} people ({sum(len(s.scans) for s in mine)} of {listed} scans)"
    said += f", and {len(others)} of those that --all brings" if others else ""
    return said + ("" if len(mine) == len(asked) else f"; `{_command(manifest)}` brings the missing")


def _left_out_said(left_out: Mapping[str, str]) -> list[str]:
    return [f"Left out: {'; '.join(f'{who} ({reason})' for who, reason in left_out.items())}"] if left_out else []
