"""Signal equations: what a sequence makes of T1, T2 (ms) and proton density."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from nbkit.core.checks import check_keys, known
from nbkit.phantom.parameters import Parameters

TISSUES = ("gm", "wm", "csf")


@dataclass(frozen=True)
class Tissue:
    """T1 and T2 in ms, proton density relative to water; numbers or arrays of one shape."""

    t1: np.ndarray | float
    t2: np.ndarray | float
    pd: np.ndarray | float

    def scaled(self, t1: float = 1.0, t2: float = 1.0, pd: float = 1.0) -> Tissue:
        """The tissue with its constants multiplied."""
        return Tissue(self.t1 * t1, self.t2 * t2, self.pd * pd)

    def towards(self, other: Tissue, share: np.ndarray | float) -> Tissue:
        """Linear interpolation: `share` 0 is this tissue, 1 is `other`."""
        return Tissue(*(a + (b - a) * share for a, b in zip(self.values(), other.values(), strict=True)))

    def values(self) -> tuple:
        """(t1, t2, pd)."""
        return self.t1, self.t2, self.pd


def spin_echo(tissue: Tissue, *, tr: float, te: float) -> np.ndarray:
    """PD (1 − e^{−TR/T1}) e^{−TE/T2}; times in ms."""
    return tissue.pd * (1 - np.exp(-tr / tissue.t1)) * np.exp(-te / tissue.t2)


def inversion_recovery(tissue: Tissue, *, tr: float, ti: float, te: float) -> np.ndarray:
    """PD (1 − 2e^{−TI/T1} + e^{−TR/T1}) e^{−TE/T2}, signed; FLAIR when TI nulls CSF."""
    recovered = 1 - 2 * np.exp(-ti / tissue.t1) + np.exp(-tr / tissue.t1)
    return tissue.pd * recovered * np.exp(-te / tissue.t2)


def double_inversion(tissue: Tissue, *, tr: float, ti1: float, ti2: float, te: float) -> np.ndarray:
    """PD (1 − 2e^{−TI2/T1} + 2e^{−(TI1+TI2)/T1} − e^{−TR/T1}) e^{−TE/T2}, signed.

    TI1 runs from the first inversion to the second, TI2 from the second to the excitation (ms).
    """
    t1 = tissue.t1
    recovered = 1 - 2 * np.exp(-ti2 / t1) + 2 * np.exp(-(ti1 + ti2) / t1) - np.exp(-tr / t1)
    return tissue.pd * recovered * np.exp(-te / tissue.t2)


def mprage(
    tissue: Tissue, *, tr: float, ti: float, flip: float, echo_spacing: float, echoes: int
) -> np.ndarray:
    """Steady-state MPRAGE signal at the k-space centre, signed: inversion, wait, spoiled readout, wait.

    `ti` is inversion to k-space centre, `tr` inversion to inversion, both ms; `flip` in degrees.
    T2* decay over the few ms of echo time is left out.

    References
    ----------
    Deichmann et al., NeuroImage 12:112-127, 2000 (after Brant-Zawadzki et al. 1992).
    """
    cosine, step = np.cos(np.radians(flip)), np.exp(-echo_spacing / tissue.t1)
    before = ti - (echoes // 2) * echo_spacing
    wait = np.exp(-before / tissue.t1)
    rest = np.exp(-(tr - before - echoes * echo_spacing) / tissue.t1)
    plateau, decay = (1 - step) / (1 - cosine * step), cosine * step
    train = decay**echoes
    # one period is an affine map of the longitudinal magnetisation before inversion: its fixed point
    relaxed = (1 - rest + rest * (plateau * (1 - train) + train * (1 - wait))) / (1 + rest * train * wait)
    first = 1 - (1 + relaxed) * wait
    centre = plateau + (first - plateau) * decay ** (echoes // 2)
    return tissue.pd * np.sin(np.radians(flip)) * centre


EQUATIONS: Mapping[str, Callable[..., np.ndarray]] = {
    f.__name__: f for f in (spin_echo, inversion_recovery, double_inversion, mprage)
}
_NOT_TIMING = ("equation", "voxel", "noise")


def signal(tissue: Tissue, contrast: str, *, parameters: Parameters) -> np.ndarray:
    """Signed signal of `tissue` in one contrast of the parameter file, before scanner gain.

    Raises
    ------
    NbkitError
        For an unknown contrast or equation, with the nearest valid name.
    """
    settings = parameters.section(f"contrast.{contrast}")
    equation = EQUATIONS[known(settings["equation"], EQUATIONS, f"contrast.{contrast}.equation")]
    return equation(tissue, **{k: v for k, v in settings.items() if k not in _NOT_TIMING})


def sensitivity(tissue: Tissue, contrast: str, constant: str, *, parameters: Parameters) -> float:
    """Derivative of the signal with respect to ln T1 or ln T2 (`constant` "t1" or "t2")."""
    step = 1e-4
    up, down = (signal(tissue.scaled(**{constant: 1 + s}), contrast, parameters=parameters) for s in (step, -step))
    return float(up - down) / (2 * step)


def nominal_tissues(parameters: Parameters) -> dict[str, Tissue]:
    """The tissues of the parameter file: gm, wm, csf, lesion."""
    return {name: Tissue(**parameters.section(f"tissue.{name}")) for name in parameters.groups("tissue")}


def drawn_tissues(rng: np.random.Generator, parameters: Parameters) -> dict[str, Tissue]:
    """The tissues of one person: constants spread log-normally between people."""
    spread = [parameters[f"variation.{c}"] for c in ("t1", "t2", "pd")]
    return {n: t.scaled(*np.exp(rng.normal(0, spread))) for n, t in nominal_tissues(parameters).items()}


def brightest(contrast: str, *, parameters: Parameters) -> float:
    """Largest magnitude among GM, WM and CSF: the reference of gain and of BrainWeb's noise levels."""
    tissues = nominal_tissues(parameters)
    check_keys(TISSUES, tissues, "ms_parameters.toml: tissue")
    return max(abs(float(signal(tissues[name], contrast, parameters=parameters))) for name in TISSUES)
