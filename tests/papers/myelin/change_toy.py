"""Seven patients, six of them scanned twice, and three controls: every lesion voxel is known."""

from __future__ import annotations

import numpy as np
import torch

from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.seeds import torch_generator
from nbkit.core.volume import Volume

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
SHAPE = (14, 15, 12)
X, Y, Z = torch.meshgrid(*map(torch.arange, SHAPE), indexing="ij")
BRAIN = (X > 0) & (X < 13) & (Y > 0) & (Y < 14) & (Z > 0) & (Z < 11)
WHITE, LESIONS = BRAIN & (X >= 4), (X >= 6) & (X <= 9) & (Y >= 5) & (Y <= 8) & (Z >= 4) & (Z <= 7)
HEALTHY, LOST = 1.2, 0.8


def change_scan(name: str, session: str, sick: torch.Tensor | None) -> Scan:
    """White matter around 1.2, the voxels `sick` of the lesions at 0.8, CSF 0.5; `sick` None for a control."""
    noise = 0.05 * torch.randn(SHAPE, generator=torch_generator(3, name, session))
    dvr = torch.where(WHITE, HEALTHY + noise.clamp(-0.1, 0.1), 0.5)
    lesions = torch.zeros_like(BRAIN)
    if sick is not None:
        lesions, dvr = LESIONS, torch.where(LESIONS, torch.where(sick, LOST, HEALTHY), dvr)
    masks = {"brain": BRAIN, "csf": BRAIN & (X <= 2), "wm": WHITE, "lesions": lesions, "nawm": WHITE & ~lesions}
    images = {"DVR": Volume(dvr * BRAIN, AFFINE)}
    age = {"t0": 30.0, "t1": 30.25}[session]
    return Scan(name, session, age, images, {k: Volume(m, AFFINE) for k, m in masks.items()})


def patient(i: int, *, seen_again: bool = True) -> Subject:
    """Patient i: of 64 lesion voxels 16 + 4i are demyelinated at t0; 8 of them recover, 2i others are lost."""
    order = torch.full(SHAPE, -1)
    order[LESIONS] = torch.arange(64)
    before = (order >= 0) & (order < 16 + 4 * i)
    after = (before & (order >= 8)) | ((order >= 50) & (order < 50 + 2 * i))
    name = f"ms{i:02}"
    scans = (change_scan(name, "t0", before), *([change_scan(name, "t1", after)] if seen_again else []))
    facts = {"age": 30.0 + 1.3 * (i % 5), "edss": 1.0 + 0.5 * i, "t2_load_ml": 4.0 + (i * i) % 7}
    return Subject(name, "FM"[i % 3 == 0], "MS", scans, facts)


def change_cohort() -> Cohort:
    """Patients ms01 to ms07 (ms02 was seen once) and controls hc0 to hc2."""
    controls = tuple(Subject(f"hc{i}", "F", "HC", (change_scan(f"hc{i}", "t0", None),)) for i in range(3))
    return Cohort("toy", (*(patient(i, seen_again=i != 2) for i in range(1, 8)), *controls), "embedded")


def truths(cohort: Cohort, session: int) -> dict[str, Volume]:
    """True DVR of the patients at a visit."""
    return {s.id: s.scans[session].image("DVR") for s in cohort if s.diagnosis == "MS" and len(s.scans) > session}
