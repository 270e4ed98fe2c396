"""Scores of made-up people, and one ball."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tests.papers.inbrainsyn.scores import HEALTHY, MODELS
from tests.papers.trajectories.ageing_balls import person


@pytest.fixture(scope="module")
def visits() -> pd.DataFrame:
    """Seven healthy people and one with AD, two visits each; the second is worse by 0.2."""
    rows = [
        {"subject": f"s{k}", "diagnosis": "AD" if k == 7 else HEALTHY[k % 2], "model": model, "years": 1.0 + visit,
         "psnr": 30 + gain, "ssim": 0.5 + 0.01 * k + gain - 0.2 * visit, "ssim_whole": 0.7 + 0.01 * k,
         "mae": 0.1 - gain, "dice": np.nan if model == "no_change" else 0.8 + gain, "folds": 0.01 * visit * k,
         "smallest_jacobian": 0.5 - 0.1 * visit, "seconds": 1.0 + k}
        for k in range(8) for visit in (0, 1) for model, gain in MODELS.items()
    ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def regions() -> pd.DataFrame:
    """Errors of 3 % and 5 %, less what the model is better by in %, for the same people."""
    rows = [
        {"subject": f"s{k}", "diagnosis": "AD" if k == 7 else "CN", "model": model, "years": years, "structure": name,
         "miss": miss - 100 * gain, "change_pct": 8.0, "true_change_pct": 10.0}
        for k in range(8) for years, miss in ((1.0, 3.0), (2.0, 5.0)) for model, gain in MODELS.items()
        for name in ("lateral_ventricle", "hippocampus", "thalamus")
    ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def ball():
    one = person("p", "HC", ages=(64.0,), size=1.0, centre=(0, 0, 0)).baseline
    return replace(one, label_names={1: "hippocampus_left", 2: "lateral_ventricle"})
