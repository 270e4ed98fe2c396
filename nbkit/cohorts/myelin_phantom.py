"""The embedded myelin cohort: 18 simulated MS patients at two time points and 10 controls (thesis, chapters 3, 4)."""

from __future__ import annotations

from functools import partial

from nbkit.core.checks import known
from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort
from nbkit.core.source import module_digest
from nbkit.phantom.myelin import phantom_head
from nbkit.phantom.myelin_people import myelin_parameters, roster
from nbkit.phantom.myelin_records import GRIDS, NULL, simulated_cohort
from nbkit.phantom.study import Study

NAME = "myelin_phantom"


def build(
    profile: str, *, seed: int, changed: bool = True, cache: Cache | None = None, n_jobs: int = 1,
    progress: bool = True,
) -> Cohort:
    """Simulate the cohort, or read what was simulated before.

    Parameters
    ----------
    profile : {"smoke", "laptop", "paper"}
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
        normal), ``demyelinated``, ``remyelinated`` and ``DVR``; ``truth[subject]["facts"]`` the rest.

    Raises
    ------
    NbkitError
        For an unknown profile.
    """
    parameters, grid = myelin_parameters(), GRIDS[known(profile, GRIDS, f"{NAME}.build: profile")]
    name = NAME if changed else NAME + NULL
    study = Study(name, profile, seed, module_digest(__name__), parameters, grid.target(parameters), cache)
    people = roster(profile, seed=seed, parameters=parameters)
    head = partial(phantom_head, grid=grid, seed=seed, parameters=parameters)
    return simulated_cohort(study, people, head, changed=changed, n_jobs=n_jobs, progress=progress)
