"""Velocity of prescribed divergence in a closed cavity: Poisson's equation with no flow through the wall."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.fft import dctn, idctn
from scipy.sparse.linalg import LinearOperator, cg

from nbkit.core.checks import NbkitError, require

_TOLERANCE = 1e-6
_ITERATIONS = 200


def solve_potential(
    divergence: np.ndarray, inside: np.ndarray, *, spacing: Sequence[float], start: np.ndarray | None = None
) -> np.ndarray:
    """Potential φ with ∇²φ = divergence inside the cavity and ∂φ/∂n = 0 on its wall.

    Seven-point finite volumes; the wall runs along voxel faces. Conjugate gradients, preconditioned by the
    exact solution in the whole box (a cosine transform): some twenty steps whatever the resolution.

    Parameters
    ----------
    divergence : numpy.ndarray
        (X, Y, Z), 1/time; must sum to zero over the cavity.
    inside : numpy.ndarray
        Boolean (X, Y, Z), one piece connected through faces.
    spacing : sequence of float
        Voxel size along X, Y, Z in mm.
    start : numpy.ndarray, optional
        A potential near the solution.

    Returns
    -------
    numpy.ndarray
        φ (X, Y, Z) in mm²/time, zero outside, known up to a constant inside.

    Raises
    ------
    NbkitError
        If sources and sinks do not balance, or the cavity is not one piece.
    """
    right = -divergence[inside].astype(np.float64)
    off = abs(right.sum())
    require(
        off <= 1e-6 * max(np.abs(right).sum(), 1e-30), "solve_potential: divergence",
        expected="sources and sinks that balance inside the cavity", found=f"a sum of {off:.3g}",
        remedy="Let fluid take up what tissue loses: subtract the mean over the fluid.",
    )
    right -= right.mean()  # what rounding leaves has no solution, and would end small flows in noise

    def stiffness(values: np.ndarray) -> np.ndarray:
        return -net_outflow(fluxes(_filled(values, inside), inside, spacing=spacing), spacing=spacing)[inside]

    eigenvalues = _box_eigenvalues(inside.shape, spacing)

    def box_inverse(values: np.ndarray) -> np.ndarray:
        return idctn(dctn(_filled(values, inside)) / eigenvalues)[inside]

    size = (right.size, right.size)
    solution, left = cg(
        LinearOperator(size, stiffness, dtype=np.float64), right, None if start is None else start[inside],
        rtol=_TOLERANCE, maxiter=_ITERATIONS, M=LinearOperator(size, box_inverse, dtype=np.float64),
    )
    if left:
        raise NbkitError(
            "solve_potential: divergence", expected="finite sources in a cavity in one piece",
            found=f"no solution in {_ITERATIONS} steps",
            remedy="Look for NaN in the divergence, keep the largest piece of the mask that hangs together by faces, "
            "or smooth a very rough wall.",
        )
    return _filled(solution, inside)


def fluxes(potential: np.ndarray, inside: np.ndarray, *, spacing: Sequence[float]) -> tuple[np.ndarray, ...]:
    """Velocity ∇φ through the faces between voxels, one array per axis, one shorter along it; zero on the wall."""
    faces = []
    for axis, step in enumerate(spacing):
        low, high = _sides(axis)
        faces.append(np.diff(potential, axis=axis) / step * (inside[low] & inside[high]))
    return tuple(faces)


def net_outflow(faces: tuple[np.ndarray, ...], *, spacing: Sequence[float]) -> np.ndarray:
    """Divergence (X, Y, Z) of face velocities; nothing crosses the border of the box."""
    return sum(np.diff(_closed(face, axis), axis=axis) / spacing[axis] for axis, face in enumerate(faces))


def at_centres(faces: tuple[np.ndarray, ...], inside: np.ndarray) -> np.ndarray:
    """Velocity (3, X, Y, Z) at voxel centres, components along the voxel axes.

    Behind the wall its normal component is mirrored with the opposite sign, so that what is interpolated
    between voxels vanishes on the wall itself.
    """
    velocity = np.zeros((len(faces), *inside.shape))
    for axis, face in enumerate(faces):
        low, high = _sides(axis)
        closed = _closed(face, axis)
        centre = (closed[low] + closed[high]) / 2
        velocity[axis] = centre
        velocity[axis][low] -= np.where(inside[low], 0, centre[high])
        velocity[axis][high] -= np.where(inside[high], 0, centre[low])
    return velocity


def _filled(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    box = np.zeros(inside.shape)
    box[inside] = values
    return box


def _sides(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Index of all voxels but the last, and of all but the first, along `axis`."""
    before = (slice(None),) * axis
    return (*before, slice(None, -1)), (*before, slice(1, None))


def _closed(face: np.ndarray, axis: int) -> np.ndarray:
    """Face velocities with the two ends of the box, where nothing flows."""
    return np.pad(face, [(1, 1) if a == axis else (0, 0) for a in range(face.ndim)])


def _box_eigenvalues(shape: tuple[int, ...], spacing: Sequence[float]) -> np.ndarray:
    """Eigenvalues of −∇² on the box with no flow through its sides; infinite for the constant."""
    terms = [(2 / h * np.sin(np.pi * np.arange(n) / (2 * n))) ** 2 for n, h in zip(shape, spacing, strict=True)]
    total = terms[0][:, None, None] + terms[1][:, None] + terms[2]
    total[0, 0, 0] = np.inf
    return total
