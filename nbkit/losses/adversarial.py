"""Adversarial losses: one value per subject, whether a discriminator answers with one score or with a map of patches.

"Real" and "fake" are the scores (B, ...) of a discriminator, without a final sigmoid; everything after the batch axis
is averaged. Every pair has a side for the discriminator and one for the generator.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from nbkit.core.checks import require


def lsgan_discriminator(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """½ (real − 1)² + ½ fake² (Mao et al. 2017, Eq. 2 with a = 0, b = 1); scores (B, ...) -> (B,)."""
    return (_per_subject((real - 1) ** 2) + _per_subject(fake**2)) / 2


def lsgan_generator(fake: torch.Tensor) -> torch.Tensor:
    """½ (fake − 1)² (Mao et al. 2017, Eq. 2 with c = 1); scores (B, ...) -> (B,)."""
    return _per_subject((fake - 1) ** 2) / 2


def bce_discriminator(
    real: torch.Tensor, fake: torch.Tensor, *, labels: tuple[torch.Tensor, torch.Tensor] | None = None
) -> torch.Tensor:
    """−ln σ(real) − ln(1 − σ(fake)) (Goodfellow et al. 2014, Eq. 1); scores (B, ...) -> (B,).

    With `labels` (of real and of fake, in [0, 1], of the scores' shapes): the cross-entropy to those instead of to 1
    and 0, see :func:`smooth_labels`.
    """
    if labels is None:
        return _per_subject(F.softplus(-real)) + _per_subject(F.softplus(fake))
    pairs = zip((real, fake), labels)
    return sum(_per_subject(y * F.softplus(-s.float()) + (1 - y) * F.softplus(s.float())) for s, y in pairs)


def smooth_labels(
    real: torch.Tensor, fake: torch.Tensor, *, spread: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels drawn from U(1 − spread, 1) for real and U(0, spread) for fake scores, on their devices.

    Salimans et al. 2016 smooth real labels only; Wei thesis 4.3.1 both, with a spread of 0.1.
    """
    high, low = (torch.rand(scores.shape, generator=generator).to(scores.device) for scores in (real, fake))
    return 1 - spread * high, spread * low


def bce_generator(fake: torch.Tensor) -> torch.Tensor:
    """−ln σ(fake), the form whose slope does not vanish (Goodfellow et al. 2014, section 3); (B, ...) -> (B,)."""
    return _per_subject(F.softplus(-fake))


def r1_penalty(scores: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """½ ‖∇D‖² at real images: the squared slope, summed over voxels, of the summed scores.

    Parameters
    ----------
    scores : torch.Tensor
        (B, ...), computed from `images`; a subject's scores must depend on no other subject.
    images : torch.Tensor
        (B, C, X, Y, Z), requiring a gradient.

    Returns
    -------
    torch.Tensor
        (B,), differentiable with respect to the discriminator. Its weight is the λ or γ of the papers.

    Raises
    ------
    NbkitError
        If `images` require no gradient.

    References
    ----------
    Mescheder et al., ICML 2018, Eq. 9.
    """
    require(
        images.requires_grad, "r1_penalty: images", expected="images that require a gradient",
        found="a tensor that does not",
        remedy="Score images.detach().requires_grad_() and pass that same tensor here.",
    )
    (slope,) = torch.autograd.grad(scores.float().sum(), images, create_graph=True)
    return slope.float().flatten(1).square().sum(dim=1) / 2


def _per_subject(values: torch.Tensor) -> torch.Tensor:
    return values.float().flatten(1).mean(dim=1) if values.ndim > 1 else values.float()
