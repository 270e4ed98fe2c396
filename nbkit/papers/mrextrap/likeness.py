"""Whether images are the person's: between two scans, and beyond the last one.

The paper says so of pictures ("preserves the subject-specific morphological structure", "align closely with held-out
longitudinal scans"); here it is the structural similarity to a true scan inside its brain, beside what the autoencoder
itself keeps of that scan, and beside controls.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch

from nbkit.core.device import side_by_side
from nbkit.core.protocols import Cohort, Scan, Subject, age_of
from nbkit.core.volume import Volume
from nbkit.metrics.image import ssim

OTHERS = 8
"""Other people in whose scans a person is looked for."""
PEAK = 0.999
"""Quantile of a true scan inside its brain that is the data range."""


def nearness(image: Volume, scan: Scan, *, contrast: str = "T1w") -> float:
    """SSIM of `image` with a true `scan` of the same grid, inside the brain of the scan."""
    true, mask = scan.image(contrast).data.float(), scan.mask("brain").data.bool()
    peak = float(torch.quantile(true[mask].double(), PEAK))
    return float(ssim(image.data.float()[None], true[None], data_range=peak, mask=mask[None]))


def middle_scan(subject: Subject) -> Scan:
    """The scan whose age is nearest to half-way between the first and the last, neither of them."""
    half = (age_of(subject.scans[0]) + age_of(subject.scans[-1])) / 2
    return min(subject.scans[1:-1], key=lambda scan: abs(age_of(scan) - half))


def between_people(ours: Any, people: Cohort) -> pd.DataFrame:
    """Whose scan the image between a person's two is like (Fig. 1c).

    First and last scan are mixed in latent space at the age of a middle one. That image is compared with the person's
    middle scan ("own") and with the middle scans of the next :data:`OTHERS` people, of whom the nearest counts
    ("other"); "reconstruction" is the middle scan after the autoencoder. People with two scans are passed over.

    Returns
    -------
    DataFrame
        "subject", "system" and "value" (SSIM).
    """
    able = [subject for subject in people if len(subject.scans) > 2]

    def of_person(place: int) -> list[tuple[str, str, float]]:
        subject, middle = able[place], middle_scan(able[place])
        first, last = subject.scans[0], subject.scans[-1]
        alpha = (age_of(middle) - age_of(first)) / (age_of(last) - age_of(first))
        image = ours.interpolate(last, first, alpha)
        strangers = [able[(place + k) % len(able)] for k in range(1, min(OTHERS, len(able) - 1) + 1)]
        found = {"own": nearness(image, middle), "reconstruction": nearness(ours.reconstruct(middle), middle)}
        if strangers:
            found["other"] = max(nearness(image, middle_scan(stranger)) for stranger in strangers)
        return [(subject.id, name, value) for name, value in found.items()]

    rows = side_by_side(of_person, range(len(able)))
    return pd.DataFrame([row for some in rows for row in some], columns=["subject", "system", "value"])


def held_out(ours: Any, people: Cohort) -> pd.DataFrame:
    """How near the prediction of each person's last scan is to it, all earlier ones seen.

    Returns
    -------
    DataFrame
        "subject", "system" and "value" (SSIM): "ols", the least-squares prediction; "reconstruction", the held-out scan
        after the autoencoder; "no_change", the last scan seen.
    """

    def of_person(subject: Subject) -> list[tuple[str, str, float]]:
        *seen, target = subject.scans
        images = {
            "ols": ours.estimating("ols").predict(seen, [age_of(target)], subject.diagnosis)[0],
            "reconstruction": ours.reconstruct(target), "no_change": seen[-1].image(ours.config.contrast),
        }
        return [(subject.id, name, nearness(image, target)) for name, image in images.items()]

    rows = side_by_side(of_person, [subject for subject in people if len(subject.scans) > 2])
    return pd.DataFrame([row for some in rows for row in some], columns=["subject", "system", "value"])
