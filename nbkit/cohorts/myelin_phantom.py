"""The embedded myelin cohort: 18 simulated MS patients at two time points and 10 controls (thesis, chapters 3, 4)."""

from __future__ import annotations

from functools import partial
from typing import Any

from nbkit.core.checks import known
from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort
from nbkit.core.source import module_digest
from nbkit.phantom.myelin import phantom_head
from nbkit.phantom.myelin_people import Person, myelin_parameters, roster
from nbkit.phantom.myelin_records import GRIDS, NULL, simulated_cohort
from nbkit.phantom.study import STRANGERS, Study, other_people

NAME = "myelin_phantom"


def build(
    profile: str, *, seed: int, changed: bool = True, cache: Cache | None = None, n_jobs: int = 1,
    progress: bool = True,
) -> Cohort:
    """Simulate the cohort, or read what was simulated before.

    Parameters
    ----------
    profile : {"smoke", "laptop", "overnight", "paper"}
        Image grid: the published 1.22 mm, or voxels of 2 or 3 times that size. Resolution and noise are those of the
        published voxels, averaged. Smoke has 6 patients and 4 controls.
    seed : int
        The same seed gives the same images to the last bit, whatever `n_jobs`.
    changed : bool
        False makes the null experiment: the same people and the same images at t0, but at t1 nothing has changed
        except noise and pose.
    cache : Cache, optional
        By default the user's cache folder.
    n_jobs : int
        Subjects made at a time (threads).
    progress : bool
        Show a progress bar while subjects are made.

    Returns
    -------
    Cohort
        Sessions "t0" and, for 15 of 18 patients, "t1", with T1w (for display), MTR (pu), FA, RD, AD (1e-3 mm²/s) and
        DVR on one grid, masks, and the truth: ``truth[subject][session]`` has the volumes ``myelin`` (fraction of
        normal), ``demyelinated``, ``remyelinated`` and ``DVR`` (of the tissue, before the camera);
        ``truth[subject]["noise_free"][session]`` DVR, MTR, RD and AD as acquired but without noise;
        ``truth[subject]["facts"]`` the rest.

    Raises
    ------
    NbkitError
        For an unknown profile.
    """
    people = roster(known(profile, GRIDS, f"{NAME}.build: profile"), seed=seed, parameters=myelin_parameters())
    name = NAME if changed else NAME + NULL
    return _built(name, people, profile, seed, cache, changed=changed, n_jobs=n_jobs, progress=progress)


def strangers(
    profile: str, *, seed: int, times: int = 10, cache: Cache | None = None, n_jobs: int = 1, progress: bool = True
) -> Cohort:
    """`times` as many other people, drawn and made alike, for what can be learned from many.

    Their images are kept as 16-bit floats (a two-thousandth of a value), and none without noise.
    """
    draw = partial(roster, known(profile, GRIDS, f"{NAME}.strangers: profile"), parameters=myelin_parameters())
    people = other_people(lambda own: draw(seed=own), seed=seed, times=times)
    return _built(
        NAME + STRANGERS, people, profile, seed, cache, changed=True, many=True, n_jobs=n_jobs, progress=progress)


def _built(
    name: str, people: tuple[Person, ...], profile: str, seed: int, cache: Cache | None, /, **settings: Any
) -> Cohort:
    parameters, grid = myelin_parameters(), GRIDS[profile]
    study = Study(name, profile, seed, module_digest(__name__), parameters, grid.target(parameters), cache)
    head = partial(phantom_head, grid=grid, seed=seed, parameters=parameters)
    return simulated_cohort(study, people, head, **settings)
