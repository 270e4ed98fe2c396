"""Where a segmenter starts from: against EM that tells every structure apart, in numpy."""

import numpy as np
import torch
from torch import nn

from nbkit.papers.trajectories.located import Located

SHAPE = (6, 4, 8)
TISSUES = torch.tensor([[0.0, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1]])
"""Fluid, grey and white matter by structure: background, one of fluid, two of grey, two of white matter."""


class Silent(nn.Module):
    """A network that has learned nothing: no logit moves."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(x), TISSUES.shape[1], *x.shape[2:])


def located() -> Located:
    usual = torch.randn(TISSUES.shape[1], *(n // 2 for n in SHAPE), generator=torch.Generator().manual_seed(0))
    return Located(Silent(), usual.mul(2).log_softmax(0), TISSUES, SHAPE)


def by_structure(image: np.ndarray, place: np.ndarray, rounds: int = 3, least: float = 0.02) -> np.ndarray:
    """Log shares (K + 1, X, Y, Z) after EM whose shares are those of structures, summed to tissues in every round."""
    inside, tissues, logits = image != 0, TISSUES.numpy(), place
    for _ in range(rounds):
        shares = np.exp(logits - logits.max(0)) * inside
        shares /= np.maximum(shares.sum(0), 1e-30)
        logits = place.copy()
        for kind in tissues:
            weight = np.tensordot(kind, shares, 1)
            mass = weight.sum() + 1
            mean = (weight * image).sum() / mass
            variance = (weight * (image - mean) ** 2).sum() / mass + least
            logits[kind > 0] -= 0.5 * ((image - mean) ** 2 / variance + np.log(variance)) * inside
    return logits


def test_tissues_told_apart_first_leave_the_shares_of_structures_as_they_are():
    net, rng = located(), np.random.default_rng(1)
    image = rng.normal(size=(2, *SHAPE)) * (rng.random((2, *SHAPE)) < 0.7)
    found = net(torch.from_numpy(image).float()[:, None]).numpy()
    expected = np.stack([by_structure(i, net.place[0].double().numpy()) for i in image])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_without_greys_only_the_place_counts():
    net = located()
    torch.testing.assert_close(net(torch.zeros(1, 1, *SHAPE)), net.place)
