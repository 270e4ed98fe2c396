"""What a system says of one person at one age, in the form that views show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nbkit.core.volume import Volume


@dataclass(frozen=True, eq=False)
class Outlook:
    """What a system says of one person at one age.

    Parameters
    ----------
    image : Volume
    volumes : mapping of str to float
        By structure, mm³.
    spread : mapping of str to float
        Standard deviation of those volumes, mm³; empty when the system gives none.
    """

    image: Volume
    volumes: Mapping[str, float]
    spread: Mapping[str, float] = field(default_factory=dict)


def between(first: Outlook, second: Outlook, share: float) -> Outlook:
    """The outlook `share` (0 to 1) of the way from `first` to `second`: voxels, volumes and spreads on straight lines.

    Raises
    ------
    NbkitError
        If the images lie on different grids.
    """
    if share <= 0 or share >= 1:
        return first if share <= 0 else second
    first.image.check_grid(second.image, "between: first and second")
    data = first.image.data.float().lerp(second.image.data.float(), share)
    image = first.image.with_data(data, f"{1 - share:.2f} of this and {share:.2f} of: {_last(second.image)}")
    return Outlook(image, *(_mixed(a, b, share) for a, b in zip(
        (first.volumes, first.spread), (second.volumes, second.spread), strict=True)))


def _mixed(first: Mapping[str, float], second: Mapping[str, float], share: float) -> dict[str, float]:
    return {name: (1 - share) * first[name] + share * second[name] for name in first if name in second}


def _last(image: Volume) -> str:
    return image.history[-1] if image.history else "an image of unknown origin"
