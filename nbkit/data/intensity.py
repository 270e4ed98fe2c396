"""Intensities on one scale: 0 at air, and z-scores from constants learned on training images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from operator import methodcaller
from typing import Any, Literal, Self

import numpy as np
import torch

from nbkit.core.checks import check_keys, closest, known, require
from nbkit.core.protocols import Cohort
from nbkit.core.volume import Volume

Over = Literal["brain", "image"]
Per = Literal["cohort", "subject"]


_AIR, _BRAIN = 0.01, (0.01, 0.99)
"""Quantiles outside the brain and in it that stand for air, darkest and brightest tissue."""
_BELOW, _ABOVE, _DARKER = 0.02, 0.1, 0.1
"""Shares of the range from air to the brightest tissue: air that lies lower or higher than this is brought to 0, and
tissue may be darker than air by the last."""


def air_level(image: Volume, inside: Volume) -> float:
    """Intensity of the air around a brain, in the image's unit; 0 where that is about it, or the mask empty.

    Ratios of tissues mean something only when air is 0. An image with an offset, z-scored with its background or all
    below 0, tells its air and can be mended; one z-scored after the skull was stripped, with 0 in its middle and
    around it, cannot.

    Parameters
    ----------
    image, inside : Volume
        One channel, and a boolean mask of the brain, on one grid.

    Raises
    ------
    NbkitError
        If tissue is darker than air, or nothing in the brain brighter.
    """
    values, brain = image.numpy().astype(np.float64), inside.numpy().astype(bool)
    outside = values[~brain]
    air = float(np.quantile(outside, _AIR)) if outside.size else 0.0
    if not brain.any():
        return 0.0
    dark, bright = np.quantile(values[brain], _BRAIN)
    span = bright - air
    require(
        bool(span > 0 and dark >= air - _DARKER * span), "intensities",
        expected="a brain brighter than the air around it",
        found=f"tissue from {dark:.4g} to {bright:.4g}, air at {air:.4g}",
        remedy="The image was z-scored or shifted after the skull was stripped, or inverted: give it as it was before.",
    )
    return air if air < -_BELOW * span or air > _ABOVE * span else 0.0


def from_air(image: Volume, inside: Volume) -> Volume:
    """`image` with air at 0; as it is where it lies there."""
    air = air_level(image, inside)
    return image.with_data(image.data - air, f"air of {air:.5g} to 0") if air else image


@dataclass(frozen=True)
class Standardiser:
    """z-scores x̄ = (x − mean) / sd, by contrast (Wei thesis, sec. 2.2.3).

    Parameters
    ----------
    mean, sd : mapping of str to float
        Constants by contrast, in the unit of the image; sd is that of a population (ddof 0).
    over : {"brain", "image"}
        Voxels that count: inside the mask, or all of them as the thesis says ("all the voxels of all
        the images in each sequence"), which makes the constants depend on the field of view.
    per : {"cohort", "subject"}
        "cohort" scales every image by `mean` and `sd`. "subject" scales each image by its own; `mean` and
        `sd` are then averages over the training images and serve :meth:`invert` only, because the constants
        of an image that was never acquired cannot be known.
    """

    mean: Mapping[str, float]
    sd: Mapping[str, float]
    over: Over = "brain"
    per: Per = "cohort"

    def __post_init__(self) -> None:
        known(self.over, ("brain", "image"), "Standardiser: over")
        known(self.per, ("cohort", "subject"), "Standardiser: per")

    @classmethod
    def fit(
        cls, volumes_by_contrast: Mapping[str, Iterable[Volume]], masks: Sequence[Volume], *, over: Over = "brain",
        per: Per = "cohort",
    ) -> Self:
        """Learn the constants from training images; pass no others.

        Parameters
        ----------
        volumes_by_contrast : mapping of str to iterable of Volume
            One single-channel image per scan and contrast; iterables are read once, one image at a time.
        masks : sequence of Volume
            One boolean brain mask per scan, in the same order.

        Raises
        ------
        NbkitError
            For an unknown `over` or `per`, a mask on another grid, an empty mask or a contrast without spread.
        """
        fitted = cls({}, {}, over, per)
        pool = _pooled if per == "cohort" else _averaged
        for name, images in volumes_by_contrast.items():
            fitted.mean[name], fitted.sd[name] = pool(fitted._moments(name, images, masks))
        return fitted

    @classmethod
    def fit_cohort(cls, cohort: Cohort, contrasts: Sequence[str], *, over: Over = "brain", per: Per = "cohort") -> Self:
        """:meth:`fit` on every scan of `cohort`, with the masks named "brain"."""
        scans = [scan for subject in cohort for scan in subject.scans]
        volumes = {name: map(methodcaller("image", name), scans) for name in contrasts}
        return cls.fit(volumes, [scan.mask("brain") for scan in scans], over=over, per=per)

    def apply(self, contrast: str, volume: Volume, *, mask: Volume) -> Volume:
        """z-scores of one image, float32, on its own grid; `mask` is read only when ``per="subject"``."""
        mean, sd = self._constants(contrast)
        if self.per == "subject":
            _, mean, variance = self._moment(contrast, volume, mask)
            sd = variance**0.5
        return volume.with_data((volume.data.float() - mean) / sd, f"z-score {contrast}")

    def invert(self, contrast: str, volume: Volume) -> Volume:
        """Back from z-scores to the unit of the training images."""
        mean, sd = self._constants(contrast)
        return volume.with_data(volume.data * sd + mean, f"raw unit {contrast}")

    def stack(
        self, images: Mapping[str, Volume], names: Sequence[str], *, mask: Volume, outside: bool = False
    ) -> torch.Tensor:
        """z-scores of several contrasts of one scan as channels, 0 (the mean) outside `mask` unless `outside` stays.

        Returns
        -------
        torch.Tensor
            (C, X, Y, Z) float32, channels in the order of `names`.
        """
        inside = mask.data[0].bool() | outside
        out = torch.zeros(len(names), *mask.shape)
        for channel, name in zip(out, names, strict=True):
            require(
                name in images, "Standardiser.stack: images", expected=repr(name),
                found=f"only {', '.join(images) or 'none'}",
                remedy=f"{closest(name, images)}Add the contrast, or use a model trained without it.",
            )
            images[name].check_grid(mask, f"Standardiser.stack: {name} and mask")
            channel[inside] = self.apply(name, images[name], mask=mask).data[0][inside]
        return out

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild from :meth:`to_dict`; missing or unexpected keys are refused by name."""
        names = [field.name for field in fields(cls)]
        check_keys(values, names, "Standardiser.from_dict")
        check_keys(names, values, "Standardiser.from_dict: missing key")
        return cls(**values)

    def _constants(self, contrast: str) -> tuple[float, float]:
        known(contrast, self.mean, "Standardiser: contrast")
        return self.mean[contrast], self.sd[contrast]

    def _moments(self, name: str, images: Iterable[Volume], masks: Sequence[Volume]) -> torch.Tensor:
        rows = [self._moment(name, image, masks[k] if k < len(masks) else None) for k, image in enumerate(images)]
        require(
            len(rows) == len(masks) > 0, f"Standardiser.fit: {name}", expected=f"{len(masks)} images, one per mask",
            found=len(rows), remedy="Give every training scan all contrasts and a brain mask.",
        )
        return torch.tensor(rows, dtype=torch.float64)

    def _moment(self, name: str, image: Volume, mask: Volume | None) -> tuple[int, float, float]:
        """Number of voxels that count, their mean and their variance."""
        values = image.data
        if self.over == "brain" and mask is not None:
            image.check_grid(mask, f"Standardiser: {name} and mask")
            values = values[mask.data.bool()]
        require(
            values.numel() > 0 and bool((values != values.flatten()[0]).any()), f"Standardiser: {name}",
            expected="voxels of different value", found=f"{values.numel()} voxels without spread",
            remedy="Check the image and its mask; a constant image cannot be standardised.",
        )
        variance, mean = torch.var_mean(values.double(), correction=0)
        return values.numel(), float(mean), float(variance)


def _pooled(moments: torch.Tensor) -> tuple[float, float]:
    """Mean and sd over all voxels of all images, from one (count, mean, variance) row per image."""
    count, mean, variance = moments.T
    weight = count / count.sum()
    centre = (weight * mean).sum()
    return float(centre), float((weight * (variance + (mean - centre) ** 2)).sum().sqrt())


def _averaged(moments: torch.Tensor) -> tuple[float, float]:
    _, mean, variance = moments.T
    return float(mean.mean()), float(variance.sqrt().mean())
