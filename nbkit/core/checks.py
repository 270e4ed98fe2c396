"""One voice for bad input: every error says where, what was expected, what came, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

import numpy as np
import torch


class NbkitError(ValueError):
    """Input that nbkit refuses.

    Parameters
    ----------
    where : str
        Function and argument, or file and field, e.g. ``"open_cohort: name"``.
    expected, found : str
        What was needed and what came instead.
    remedy : str
        What the user can do about it.
    """

    def __init__(self, where: str, *, expected: str, found: str, remedy: str) -> None:
        self.where, self.expected, self.found, self.remedy = where, expected, found, remedy
        super().__init__(f"{where}: expected {expected}, found {found}. {remedy}")

    def at(self, where: str) -> NbkitError:
        """The same refusal with another place: a caller knows file, row or person by better names."""
        return _rebuild(type(self), where, self.expected, self.found, self.remedy)

    def __reduce__(self):
        # joblib carries exceptions between processes; keyword-only arguments need naming
        return _rebuild, (type(self), self.where, self.expected, self.found, self.remedy)


def _rebuild(kind: type, where: str, expected: str, found: str, remedy: str) -> NbkitError:
    return kind(where, expected=expected, found=found, remedy=remedy)


def require(condition: bool, where: str, *, expected: str, found: object, remedy: str) -> None:
    """Raise :class:`NbkitError` unless `condition` holds."""
    if not condition:
        raise NbkitError(where, expected=expected, found=str(found), remedy=remedy)


def counted(reasons: Mapping[str, int]) -> str:
    """Reasons and how often each occurs, in one line."""
    return "; ".join(f"{why} ({count})" for why, count in reasons.items())


def closest(name: str, valid: Iterable[str]) -> str:
    """Return ``"Did you mean 'x'? "`` for the nearest valid name, or ``""`` when none is near or `name` is one."""
    names = [str(v) for v in valid]
    # remedies are worked out where nothing is wrong too, and among hundreds of names the search takes a while
    near = [] if str(name) in names else difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    return f"Did you mean {near[0]!r}? " if near else ""


def known(name: str, valid: Iterable[str], where: str) -> str:
    """Return `name` if it is one of `valid`; otherwise raise with the nearest valid name."""
    names = sorted(map(str, valid))
    if name in names:
        return name
    raise NbkitError(
        where,
        expected=f"one of {', '.join(names) or '(none)'}",
        found=repr(name),
        remedy=f"{closest(name, names)}Use one of the listed names.",
    )


def check_finite(values: torch.Tensor | np.ndarray, where: str) -> None:
    """Refuse NaN, infinities and constant images (a constant image carries no anatomy)."""
    x = torch.as_tensor(values)
    bad = int((~torch.isfinite(x)).sum()) if x.is_floating_point() else 0
    require(
        bad == 0,
        where,
        expected="finite values",
        found=f"{bad} NaN or infinite voxels of {x.numel()}",
        remedy="Re-export the image or mask the bad voxels, then try again.",
    )
    require(
        x.numel() > 1 and bool(x.min() < x.max()),
        where,
        expected="an image with contrast",
        found=f"a constant image (value {float(x.flatten()[0]) if x.numel() else 'none'})",
        remedy="The file is empty or failed in conversion: convert it again, or leave this scan out.",
    )


def check_labels(values: torch.Tensor | np.ndarray, where: str) -> None:
    """Refuse a label image with fractions (a sign of linear resampling or header scaling)."""
    x = torch.as_tensor(values)
    if not x.is_floating_point():
        return
    off = int((x != x.round()).sum())
    require(
        off == 0,
        where,
        expected="whole label numbers",
        found=f"{off} voxels with fractions, e.g. {float(x[x != x.round()][0]) if off else 0:.4g}",
        remedy="Resample labels with nearest neighbour and save them as integers (nbkit.data.nifti.save_labels).",
    )


def check_same_grid(
    shape_a: Iterable[int], affine_a: np.ndarray, shape_b: Iterable[int], affine_b: np.ndarray, where: str,
    *, tolerance_mm: float = 1e-2,
) -> None:
    """Refuse two images whose spatial shape or affine differ (affines to `tolerance_mm` per entry)."""
    a, b = tuple(shape_a), tuple(shape_b)
    require(
        a == b, where, expected=f"the same shape {a}", found=b,
        remedy="Resample one image onto the grid of the other first (nbkit.geometry.warp.resample).",
    )
    gap = float(np.abs(np.asarray(affine_a) - np.asarray(affine_b)).max())
    require(
        gap <= tolerance_mm, where,
        expected="the same affine", found=f"affines that differ by up to {gap:.4g}",
        remedy="The images are not on one grid: register or resample them onto one another first.",
    )


def check_keys(given: Mapping | Iterable[str], valid: Iterable[str], where: str) -> None:
    """Refuse the first key of `given` that is not in `valid`, with the nearest valid name."""
    names = list(valid)
    for key in given:
        known(key, names, where)


def check_disjoint(train_ids: Iterable[str], test_ids: Iterable[str], *, where: str = "check_disjoint") -> None:
    """Refuse, by name, subjects that are on both sides of a split."""
    both = sorted(set(train_ids) & set(test_ids))
    require(
        not both, where, expected="no subject both in training and in test", found=", ".join(both),
        remedy="Split by subject (nbkit.data.splits.folds), never by scan or slice.",
    )
