"""A compact U-Net that labels the structures of the brain on a T1w image, true or predicted.

It stands where the papers use SynthSeg: trained on the label maps of training subjects, part of the time under
contrasts drawn at random (Billot et al., Med Image Anal 86:102789, 2023) so that it reads shapes and not one
scanner's greys. All scans are aligned with MNI space, so the network starts from where structures usually lie and from
the greys of fluid, grey and white matter in the image at hand (Ashburner & Friston, NeuroImage 26:839, 2005, without
their bias field and warps), and learns what is missing. Where structures usually lie also holds its volumes back: what
it reads of a change is a steady share of it. That share is measured on training people with several visits, and undone
(a calibration of the instrument, like that of a balance). Its own error is measured on true scans (:func:`own_error`)
and printed beside what it yields.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from nbkit.core.checks import check_same_grid, require
from nbkit.core.config import Settings
from nbkit.core.device import autocast, fast_half, pick_device
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.recent import Recent, fingerprint
from nbkit.core.seeds import torch_generator
from nbkit.core.volume import Volume
from nbkit.data.splits import subject_hash
from nbkit.losses.regions import class_dice_loss
from nbkit.metrics.overlap import dice_per_label
from nbkit.metrics.regions import regional_volumes, soft_volumes, structure
from nbkit.nets.fcn import initialise
from nbkit.papers.trajectories.located import Located
from nbkit.papers.trajectories.varied import painted
from nbkit.nets.unet import UNet
from nbkit.training.checkpoint import Constants, Saved, check_tensors
from nbkit.training.loop import StripRule, train
from nbkit.training.steps import PlainStep


@dataclass(frozen=True)
class Config(Settings):
    """Settings; all our choice, since the papers use SynthSeg as it is.

    Attributes
    ----------
    contrast : str
        Image that is segmented; z-scored within its own brain.
    synthetic : float
        Share of training images drawn from the label map with random contrast.
    first, levels : int
        Feature maps of the first U-Net block, and poolings.
    learning_rate : float
        Of Adam at the start; falls to nothing along a cosine.
    steps, batch : int
        Training steps, and images seen in each.
    """

    contrast: str = "T1w"
    synthetic: float = 0.1
    first: int = 24
    levels: int = 3
    learning_rate: float = 2e-3
    steps: int = 20_000
    batch: int = 1
    device: str = "auto"
    seed: int = 7

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"first": 6, "levels": 2, "learning_rate": 1e-2, "steps": 24, "batch": 2},
        "laptop": {"first": 12, "learning_rate": 5e-3, "steps": 200, "batch": 2},
        "overnight": {"first": 16, "steps": 3_000},
    }


FLUID, WHITE = ("lateral_ventricle", "csf"), ("white_matter", "hindbrain")
"""Structures of fluid and of white matter; all others are grey."""
_LEAST_SHARE = 1e-3
"""Share of a voxel that any structure may have where no training person has it."""
_REMEMBERED = 2
"""Images whose shares are kept: volumes and labels of one image are asked for in turn, by two threads at most."""
_CALIBRATED_ON = 24
"""Most training people whose first and last visit calibrate the volumes."""


class RegionalSegmenter(Saved):
    """Fit on scans with label maps, then label any image of the same grid."""

    settings = Config

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self.device = pick_device(self.config.device)
        self.names: dict[int, str] = {}
        self.calibration: dict[str, tuple[float, float]] = {}
        self.net: nn.Module | None = None
        self.shape, self.affine = (0, 0, 0), np.eye(4)
        self.history: dict[str, Any] = {}
        self._shares = Recent(_REMEMBERED)

    def fit(self, cohort: Cohort) -> Self:
        """Train on every scan of `cohort`, then calibrate on the first and last visit of some of its people.

        Raises
        ------
        NbkitError
            If a scan has no labels, or scans name their codes differently.
        """
        c, scans = self.config, [scan for subject in cohort for scan in subject.scans]
        self.names, self._shares = shared_names(scans), Recent(_REMEMBERED)
        first = scans[0].labels
        self.shape, self.affine = first.shape, first.affine
        self._build(usual_place(scans, self.names))
        optimiser = torch.optim.Adam(self.net.parameters(), lr=c.learning_rate)
        plan = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, c.steps)
        half = fast_half(self.device)
        step = PlainStep(self.net, optimiser, loss=self._loss, device=self.device, half=half, clip=5.0)

        def epoch(number: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            drawn = [self._example(scans, c.batch * (number - 1) + k) for k in range(1, c.batch + 1)]
            yield tuple(map(torch.cat, zip(*drawn, strict=True)))
            plan.step()

        state = {"step": step, "plan": plan}
        history = train(step, epoch, epochs=c.steps, rule=StripRule(), state=state, label="regional segmenter")
        self.history, self.trained_on = history.as_dict(), subject_hash(cohort.ids)
        self.calibration = self._calibrated(cohort)
        return self

    def probabilities(self, image: Volume, *, mask: Volume) -> Volume:
        """Share of every voxel per structure, (K, X, Y, Z) float32 in the order of ``names``, 0 outside `mask`."""
        require(
            self.net is not None and bool(self.trained_on), "RegionalSegmenter", expected="a fitted model",
            found="an unfitted one", remedy="Call fit(cohort) or RegionalSegmenter.load(path) first.",
        )
        image.check_grid(mask, "RegionalSegmenter: image and mask")
        check_same_grid(self.shape, self.affine, image.shape, image.affine, "RegionalSegmenter: image")
        key = fingerprint(image), fingerprint(mask)
        return Volume(
            self._shares.get(key, lambda: self._predicted(image, mask)), image.affine,
            (*image.history, "regional segmentation"),
        )

    def segment(self, image: Volume, *, mask: Volume) -> Volume:
        """The likeliest structure of every voxel, as codes of ``names``; 0 where background is likelier."""
        shares = self.probabilities(image, mask=mask).data
        codes = torch.tensor([0, *self.names], dtype=torch.int16)
        best = torch.cat([1 - shares.sum(0, keepdim=True), shares]).argmax(0)
        return Volume(codes[best], image.affine, (*image.history, "regional segmentation"))

    def volumes(self, image: Volume, *, mask: Volume) -> dict[str, float]:
        """Volume of every structure in mm³: exp(a + b log V), V voxels counted by their share, a and b calibrated."""
        counted, unchanged = self._counted(image, mask), (0.0, 1.0)
        powers = {name: self.calibration.get(name, unchanged) for name in counted}
        return {name: math.exp(a) * counted[name] ** b for name, (a, b) in powers.items()}

    def _tensors(self) -> dict[str, torch.Tensor]:
        return self.net.state_dict()

    def _constants(self) -> dict[str, Any]:
        return {
            "names": {str(k): v for k, v in self.names.items()}, "shape": list(self.shape),
            "affine": self.affine.tolist(), "calibration": {n: list(ab) for n, ab in self.calibration.items()},
        }

    def _restore(self, tensors: dict[str, torch.Tensor], constants: Constants, where: str) -> None:
        self.names = {int(code): name for code, name in constants["names"].items()}
        self.shape, self.affine = tuple(constants["shape"]), np.array(constants["affine"])
        self.calibration = {name: tuple(ab) for name, ab in constants["calibration"].items()}
        self._build(torch.zeros(1 + len(self.names), *(n // 2 for n in self.shape)))
        check_tensors(tensors, self.net.state_dict(), where)
        self._build(tensors["usual"])  # what the network starts from follows from it
        self.net.load_state_dict(tensors)

    @torch.inference_mode()
    def _predicted(self, image: Volume, mask: Volume) -> torch.Tensor:
        """(K, X, Y, Z) on the CPU, see :meth:`probabilities`."""
        self.net.eval()
        inside = mask.data.bool().to(self.device)
        with autocast(self.device, fast_half(self.device)):
            logits = self.net(scaled(image.data.to(self.device), inside)[None])
        return (logits[0].float().softmax(0)[1:] * inside).cpu()

    def _build(self, usual: torch.Tensor) -> None:
        c = self.config
        net = UNet(1, 1 + len(self.names), first=c.first, levels=c.levels, norm=True)
        net = initialise(net, torch_generator(c.seed, "weights", "regional segmenter"))
        net = net.to(memory_format=torch.channels_last_3d)
        self.net = Located(net, usual, tissues_of(self.names), self.shape).to(self.device)

    def _counted(self, image: Volume, mask: Volume) -> dict[str, float]:
        """mm³ by structure as the network sees them."""
        return soft_volumes(self.probabilities(image, mask=mask), list(self.names.values()))

    def _calibrated(self, cohort: Cohort) -> dict[str, tuple[float, float]]:
        """By structure (a, b): log true volume is about a + b log of what is counted.

        b is the slope, through zero and the same for both sides, of true log growth on that counted between the first
        and the last visit, or 1 where that is not positive; a makes these scans right on average. Empty where nobody
        has two visits.
        """
        people = [subject for subject in cohort if len(subject.scans) > 1]
        people = people[:: max(1, math.ceil(len(people) / _CALIBRATED_ON))]
        if not people:
            return {}
        ends = [scan for subject in people for scan in (subject.scans[0], subject.scans[-1])]
        known_of = [_true_volumes(subject, cohort.truth, self.names) for subject in people]
        true = _log_pairs(volumes[k] for volumes in known_of for k in (0, -1))
        seen = _log_pairs(self._counted(scan.image(self.config.contrast), scan.mask("brain")) for scan in ends)
        names, found = list(self.names.values()), {}
        for kind in dict.fromkeys(map(structure, names)):
            sides = [k for k, name in enumerate(names) if structure(name) == kind]
            present = np.isfinite(true[..., sides] + seen[..., sides]).all((1, 2))
            t, s = true[present][..., sides], seen[present][..., sides]
            grown, shown = t[:, 1] - t[:, 0], s[:, 1] - s[:, 0]
            b = float((grown * shown).sum() / (shown**2).sum()) if shown.any() else 1.0
            b = b if b > 0 else 1.0  # it goes the wrong way: nothing to undo
            offsets = (t - b * s).mean((0, 1)) if present.any() else np.zeros(len(sides))
            found |= {names[k]: (float(a), b) for k, a in zip(sides, offsets, strict=True)}
        return found

    def _example(self, scans: Sequence[Scan], number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The image (1, 1, X, Y, Z) and class indices (1, 1, X, Y, Z) of draw `number`."""
        rng = torch_generator(self.config.seed, "segmenter step", number)
        scan = scans[int(torch.randint(len(scans), (), generator=rng))]
        classes = class_indices(scan.labels.data, self.names)
        inside = scan.mask("brain").data.bool()
        if float(torch.rand((), generator=rng)) < self.config.synthetic:
            image = painted(classes, 1 + len(self.names), rng)
        else:
            image = scan.image(self.config.contrast).data.float()
        image = scaled(image, inside)
        gamma, noise = torch.rand(2, generator=rng)
        image = image.sign() * image.abs() ** (0.7 + 0.6 * gamma)
        image = image + 0.15 * noise * torch.randn(image.shape, generator=rng) * inside
        return image[None], classes[None]

    def _loss(self, net: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> dict[str, torch.Tensor]:
        image, classes = (x.to(self.device) for x in batch)
        logits = net(image.contiguous(memory_format=torch.channels_last_3d)).float()
        # unweighted: shares near probabilities, whose sums are volumes; the overlap keeps small structures in view
        entropy = F.cross_entropy(logits, classes[:, 0].long(), reduction="none").flatten(1).mean(1)
        overlap = class_dice_loss(logits, classes)
        return {"total": entropy + overlap, "cross_entropy": entropy, "dice": overlap}


def own_error(segmenter: RegionalSegmenter, cohort: Cohort) -> pd.DataFrame:
    """How well the segmenter reads true scans it was not trained on: what limits every volume it yields.

    Returns
    -------
    pandas.DataFrame
        By structure: mean Dice against the true labels, mean and SD over scans of the volume error (%, of what a
        simulation knows, or of the labels counted), and the SD over subjects of the error in change since baseline (%
        of the baseline volume; NaN with one visit).
    """
    rows = []
    for subject in cohort:
        visits = zip(subject.scans, _true_volumes(subject, cohort.truth, segmenter.names), strict=True)
        for scan, true in visits:
            mask, image = scan.mask("brain"), scan.image(segmenter.config.contrast)
            found = segmenter.volumes(image, mask=mask)
            labels = segmenter.segment(image, mask=mask).data[None]
            overlap = dice_per_label(labels.long(), scan.labels.data[None].long(), segmenter.names)
            rows += [(subject.id, name, float(overlap[name]), found[name] / volume - 1 if volume else float("nan"))
                     for name, volume in true.items()]
    table = pd.DataFrame(rows, columns=["subject", "structure", "dice", "error"])
    table["change"] = 100 * (table["error"] - table.groupby(["subject", "structure"])["error"].transform("first"))
    table["error"] *= 100
    later = table[table.groupby(["subject", "structure"]).cumcount() > 0]
    grouped = table.groupby("structure", sort=False)
    return pd.DataFrame({
        "Dice": grouped["dice"].mean(), "volume error (%)": grouped["error"].mean(),
        "SD (%)": grouped["error"].std(), "SD of error in change (%)": later.groupby("structure")["change"].std(),
    }).loc[list(segmenter.names.values())]


def shared_names(scans: Sequence[Scan]) -> dict[int, str]:
    """Names of the codes that all scans share, in the order of the codes; others are refused by scan."""
    names = dict(scans[0].label_names) if scans else {}
    for scan in scans:
        require(
            scan.labels is not None and len(names) > 0 and dict(scan.label_names) == names,
            f"{scan.subject}/{scan.session}: labels", expected="a label map with the same structures as the others",
            found=", ".join(scan.label_names.values()) or "none",
            remedy="Fit on a cohort whose scans carry labels, e.g. ageing_phantom or ixi_ageing.",
        )
    return dict(sorted(names.items()))


def _true_volumes(subject: Subject, truth: Mapping[str, Any], names: Mapping[int, str]) -> list[dict[str, float]]:
    """mm³ by structure at every visit: as a simulation knows them, or else the labels counted.

    Where structures are thin, labels of whole voxels grow and shrink by another factor than what they stand for.
    """
    if subject.id in truth:
        known_of = dict(zip(truth[subject.id].ages, truth[subject.id].volumes, strict=True))
        nearest = [known_of[min(known_of, key=lambda age: abs(age - scan.age))] for scan in subject.scans]
        return [{name: volumes[name] for name in names.values()} for volumes in nearest]
    return [regional_volumes(scan.labels, names) for scan in subject.scans]


def _log_pairs(volumes: Iterable[Mapping[str, float]]) -> np.ndarray:
    """Logs of volumes of scans that come in pairs, (pairs, 2, structures); -inf for none of a structure."""
    table = np.array([list(each.values()) for each in volumes])
    with np.errstate(divide="ignore"):
        return np.log(table).reshape(-1, 2, table.shape[1])


def tissues_of(names: Mapping[int, str]) -> torch.Tensor:
    """(3, 1 + K), see :class:`nbkit.papers.trajectories.located.Located`."""
    bare = [name.removesuffix("_left").removesuffix("_right") for name in names.values()]
    kinds = [0 if name in FLUID else 2 if name in WHITE else 1 for name in bare]
    return F.pad(F.one_hot(torch.tensor(kinds), 3).T.float(), (1, 0))


def class_indices(labels: torch.Tensor, names: Mapping[int, str]) -> torch.Tensor:
    """Codes to class indices 0…K, in the order of `names`."""
    out = torch.zeros(labels.shape, dtype=torch.uint8)
    for index, code in enumerate(names, 1):
        out[labels == code] = index
    return out


def usual_place(scans: Sequence[Scan], names: Mapping[int, str]) -> torch.Tensor:
    """Log of the mean share of cells of two voxels that background and each structure fill, (1 + K, x, y, z)."""
    first, total = scans[0].labels, 0
    for scan in scans:
        first.check_grid(scan.labels, f"{scan.subject}/{scan.session}: labels, against the first scan")
        shares = F.one_hot(class_indices(scan.labels.data, names)[0].long(), 1 + len(names)).movedim(-1, 0).float()
        total = total + F.avg_pool3d(shares, 2)
    return (total / len(scans) + _LEAST_SHARE).log()


def scaled(image: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """z-scored within the mask (1, X, Y, Z), 0 outside."""
    values = image.float()[inside]
    return (image.float() - values.mean()) / values.std().clamp(min=1e-6) * inside
