"""Networks over volumes larger than they can hold: overlapping windows, blended by a Gaussian."""

from __future__ import annotations

from collections.abc import Callable

import torch

Window = tuple[int, int, int]


def slide(
    net: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, window: Window | None, *, overlap: float = 0.5
) -> torch.Tensor:
    """net(x), computed window by window where x is larger than `window`.

    Parameters
    ----------
    net : callable
        (N, C, *window) -> (N, K, *window), N at most 4: several windows at once are faster on CPUs.
    x : torch.Tensor
        (1, C, X, Y, Z).
    window : tuple of int or None
        None: the whole volume at once.
    overlap : float
        Share of a window's edge that its neighbour covers too; 0.5 in Wei thesis 4.3.1, which does not say how
        overlapping windows are joined. Here weights fall off from a window's centre as a Gaussian of an eighth of its
        edge, so that its less certain border counts little.

    Returns
    -------
    torch.Tensor
        (1, K, X, Y, Z).
    """
    if window is None or all(n <= w for n, w in zip(x.shape[2:], window)):
        return net(x)
    from monai.inferers import sliding_window_inference  # takes seconds to import, and small profiles do without

    return sliding_window_inference(x, window, 4, net, overlap=overlap, mode="gaussian")
