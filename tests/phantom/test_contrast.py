"""Signal equations against nulls, limits, and a pulse-by-pulse simulation of the magnetisation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.core.checks import NbkitError
from nbkit.phantom.contrast import (
    Tissue, brightest, double_inversion, inversion_recovery, mprage, nominal_tissues, sensitivity, signal, spin_echo,
)
from nbkit.phantom.parameters import Parameters, load_parameters

P = load_parameters()
TISSUES = nominal_tissues(P)
T1 = st.floats(200, 5000)


def relax(m: float, time: float, t1: float) -> float:
    """Longitudinal magnetisation after `time`, from `m` towards 1."""
    return 1 + (m - 1) * np.exp(-time / t1)


@given(T1)
def test_inversion_recovery_follows_the_pulses(t1):
    """90° leaves nothing; wait, invert, wait TI, read."""
    m = relax(-relax(0, 9000 - 2400, t1), 2400, t1)
    assert inversion_recovery(Tissue(t1, 1e12, 1.0), tr=9000, ti=2400, te=100) == pytest.approx(m, abs=1e-9)


@given(T1)
def test_double_inversion_follows_the_pulses(t1):
    m = relax(-relax(-relax(0, 7500 - 3000, t1), 2550, t1), 450, t1)
    read = double_inversion(Tissue(t1, 1e12, 1.0), tr=7500, ti1=2550, ti2=450, te=100)
    assert read == pytest.approx(m, abs=1e-9)


@given(T1)
def test_two_inversions_at_once_cancel(t1):
    tissue = Tissue(t1, 90.0, 0.8)
    read = double_inversion(tissue, tr=7500, ti1=0, ti2=450, te=30)
    assert read == pytest.approx(spin_echo(tissue, tr=7500, te=30), abs=1e-12)


@settings(max_examples=25)
@given(T1, st.floats(2, 15), st.integers(2, 120))
def test_mprage_is_the_steady_state_of_its_pulses(t1, flip, echoes):
    tr, ti, spacing, turn = 2600.0, 900.0, 7.0, np.radians(flip)
    m, before = 1.0, ti - (echoes // 2) * spacing
    for _ in range(60):
        m, centre = relax(-m, before, t1), None
        for echo in range(echoes):
            centre = m * np.sin(turn) if echo == echoes // 2 else centre
            m = relax(m * np.cos(turn), spacing, t1)
        m = relax(m, tr - before - echoes * spacing, t1)
    read = mprage(Tissue(t1, 80.0, 0.9), tr=tr, ti=ti, flip=flip, echo_spacing=spacing, echoes=echoes)
    assert read == pytest.approx(0.9 * centre, abs=1e-9)


def test_flair_nulls_the_fluid_of_the_parameter_file():
    csf, tr = TISSUES["csf"], P["contrast.FLAIR.tr"]
    null = csf.t1 * np.log(2 / (1 + np.exp(-tr / csf.t1)))
    assert P["contrast.FLAIR.ti"] == pytest.approx(null, abs=1)
    assert abs(signal(csf, "FLAIR", parameters=P)) < 1e-3 * signal(TISSUES["wm"], "FLAIR", parameters=P)


def test_dir_leaves_gray_matter_brightest():
    size = {name: abs(signal(tissue, "DIR", parameters=P)) for name, tissue in TISSUES.items()}
    assert size["gm"] > 2 * size["wm"] > 0
    assert size["gm"] > 2 * size["csf"]
    assert brightest("DIR", parameters=P) == pytest.approx(size["gm"])


@pytest.mark.parametrize(
    ("contrast", "order"),
    [
        ("T1w", ("csf", "gm", "lesion", "wm")), ("T1SE", ("csf", "gm", "lesion", "wm")),
        ("T2w", ("wm", "gm", "lesion", "csf")), ("FLAIR", ("csf", "wm", "gm", "lesion")),
    ],
)
def test_tissues_are_ordered_as_radiologists_know_them(contrast, order):
    size = [abs(float(signal(TISSUES[name], contrast, parameters=P))) for name in order]
    assert size == sorted(size)


@given(T1, st.floats(30, 2000))
def test_spin_echo_limits(t1, t2):
    tissue = Tissue(t1, t2, 0.7)
    assert spin_echo(tissue, tr=1e9, te=0) == pytest.approx(0.7)
    assert spin_echo(tissue, tr=0, te=10) == 0
    assert spin_echo(tissue, tr=500, te=t2) == pytest.approx(spin_echo(tissue, tr=500, te=0) / np.e)


@pytest.mark.parametrize("name", TISSUES)
def test_sensitivity_is_the_analytic_derivative(name):
    tissue, tr, te = TISSUES[name], P["contrast.T2w.tr"], P["contrast.T2w.te"]
    value = float(signal(tissue, "T2w", parameters=P))
    by_t2 = sensitivity(tissue, "T2w", "t2", parameters=P)
    assert by_t2 == pytest.approx(value * te / tissue.t2, rel=1e-6)
    decay = np.exp(-tr / tissue.t1)
    by_t1 = sensitivity(tissue, "T2w", "t1", parameters=P)
    assert by_t1 == pytest.approx(-value * decay / (1 - decay) * tr / tissue.t1, rel=1e-4)


def test_lesions_lie_between_white_matter_and_their_end():
    half = TISSUES["wm"].towards(TISSUES["lesion"], np.array([0.0, 0.5, 1.0]))
    assert half.t1 == pytest.approx([832, (832 + 1063) / 2, 1063])
    assert signal(half, "FLAIR", parameters=P)[2] == pytest.approx(signal(TISSUES["lesion"], "FLAIR", parameters=P))


def test_unknown_contrast_and_equation_are_named():
    with pytest.raises(NbkitError, match="Did you mean 'contrast.FLAIR'"):
        signal(TISSUES["wm"], "FLARE", parameters=P)
    entries = {**P.entries, "contrast.T2w.equation": {"value": "spin_ecko", "unit": "", "source": "test"}}
    with pytest.raises(NbkitError, match=r"contrast.T2w.equation.*Did you mean 'spin_echo'"):
        signal(TISSUES["wm"], "T2w", parameters=Parameters(entries))
