"""From a T1w scan with the head on to a template's grid: brain, bias, intensity, alignment, one interpolation."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk
import torch
from joblib import Parallel, delayed
from scipy import ndimage, signal
from tqdm.auto import tqdm

from nbkit.core.checks import NbkitError, check_finite, known, require
from nbkit.core.config import Settings
from nbkit.core.device import one_thread
from nbkit.core.files import Cache
from nbkit.core.protocols import Scan
from nbkit.core.source import module_digest
from nbkit.core.volume import Volume, bounding_box
from nbkit.data import brain, lazy, nifti
from nbkit.data.intensity import from_air
from nbkit.data.nifti_header import files_of
from nbkit.geometry.affine import DEGREES, align
from nbkit.geometry.placement import place
from nbkit.geometry.pyramid import block, shrink
from nbkit.geometry.warp import Displacement

KIND = "preprocessed"
_FILE = "scan.safetensors"
_MARGIN_MM = 6.0
"""Kept around the brain, so that interpolation at its edge has something to read."""
LEAST_SHARED, LEAST_ALIKE = 0.95, 0.3
"""Of 40 IXI heads .99 and .40 or more; of one turned by 40° about an axis .97 and .25 at most, by 70° .94 and .18."""


@dataclass(frozen=True)
class Config(Settings):
    """Settings of :func:`prepare`.

    Parameters
    ----------
    alignment : {"affine", "similarity", "rigid"}
        Degrees of freedom towards the reference; "rigid" keeps every volume in mm³.
    bias_mm : float
        Spacing of the blocks that the bias field is estimated on.
    bias_iterations : tuple of int
        Most iterations of each level of N4; every level halves the distance of its control points. Three levels:
        on IXI scans a fourth raised the ratio of grey to white matter from .72 to .79, so it flattened anatomy.
    """

    alignment: Literal["affine", "similarity", "rigid"] = "affine"
    bias_mm: float = 6.0
    bias_iterations: tuple[int, ...] = (50, 50, 50)

    def __post_init__(self) -> None:
        known(self.alignment, DEGREES, "preprocess.Config: alignment")
        require(
            self.bias_mm > 0 and len(self.bias_iterations) > 0 and min(self.bias_iterations) > 0,
            "preprocess.Config: bias_mm, bias_iterations", expected="a spacing above 0 mm and iterations per level",
            found=f"{self.bias_mm} and {self.bias_iterations}", remedy="The defaults are 6 mm and (50, 50, 50).",
        )


@dataclass(frozen=True, eq=False)
class Reference:
    """What scans are aligned to.

    Parameters
    ----------
    image : Volume
        T1w contrast, one channel, any unit; only its brain is used.
    brain : Volume
        Boolean mask on the same grid.
    """

    image: Volume
    brain: Volume

    def __post_init__(self) -> None:
        self.image.check_grid(self.brain, "preprocess.Reference: image and brain")

    @functools.cached_property
    def stripped(self) -> Volume:
        """The image, 0 outside the brain."""
        return self.image.with_data(self.image.data * self.brain.data.bool())

    @functools.cached_property
    def digest(self) -> str:
        """Hexadecimal digest of the stripped image and its place."""
        return hashlib.sha256(self.stripped.data.numpy().tobytes() + self.image.affine.tobytes()).hexdigest()[:12]


@dataclass(frozen=True)
class Source:
    """A scan's files.

    Parameters
    ----------
    subject, session : str
    t1w : Path
        Head on or stripped, any orientation.
    brain : Path, optional
        Mask or label map on the grid of `t1w`, above 0 in the brain; without one :func:`nbkit.data.brain.kept_brain`.
    """

    subject: str
    session: str
    t1w: Path
    brain: Path | None = None


@dataclass(frozen=True, eq=False)
class Prepared:
    """A scan ready to be interpolated, once, onto whatever grid is wanted.

    Parameters
    ----------
    image : Volume
        On the scan's own voxels, cut to the brain: bias removed, white-matter peak at 1. Outside the brain every
        voxel repeats the nearest one inside, so that interpolation does not darken the edge.
    brain : Volume
        Boolean, on the same grid.
    matrix : numpy.ndarray
        4×4, world of the reference to world of the scan (mm).
    """

    image: Volume
    brain: Volume
    matrix: np.ndarray

    def brain_on(self, shape: tuple[int, int, int], affine: np.ndarray) -> Volume:
        """The brain on a grid in the reference's world: voxels of which it fills more than half."""
        share = place(self.brain, self.matrix, shape=shape, affine=affine)
        return share.with_data(share.data > 0.5, "more than half")

    def image_on(self, inside: Volume, *, displacement: Displacement | None = None) -> Volume:
        """The image on the grid of a brain mask, 0 outside it, through one interpolation."""
        placed = place(self.image, self.matrix, shape=inside.shape, affine=inside.affine, displacement=displacement)
        return placed.with_data(placed.data * inside.data, "0 outside the brain")

    def uncut_on(self, shape: tuple[int, int, int], affine: np.ndarray) -> Volume:
        """The image on a grid, through one interpolation; outside the brain as :attr:`image` is."""
        return place(self.image, self.matrix, shape=shape, affine=affine)


def prepare(
    t1w: Volume, reference: Reference, *, config: Config | None = None, mask: Volume | None = None,
    cache: Cache | None = None,
) -> Prepared:
    """Find the brain, remove the bias field, bring white matter to 1 and align to the reference.

    The alignment is :func:`nbkit.geometry.affine.align` of the two stripped images, not SimpleITK's: correlation
    fits one modality, and it draws no samples, so that the same scan gives the same matrix anywhere.

    Parameters
    ----------
    t1w : Volume
        One channel, any orientation.
    reference : Reference
    config : Config, optional
    mask : Volume, optional
        On the grid of `t1w`, above 0 in the brain; without one the brain is found.
    cache : Cache, optional
        Where a brain that is found is kept.

    Raises
    ------
    NbkitError
        For NaN, a constant image, a mask that is empty or on another grid, no brain found, or one that is not where
        and as large as the reference's once it is aligned.
    """
    config = config or Config()
    check_finite(t1w.data, "prepare: t1w")
    if mask is not None:
        t1w.check_grid(mask, "prepare: t1w and mask")
    inside = brain.kept_brain(t1w, cache=cache) if mask is None else brain.checked(mask.with_data(mask.data > 0))
    t1w = from_air(t1w, inside)
    inside = brain.checked(inside, t1w=t1w) if mask is None else inside
    margin = int(np.ceil(_MARGIN_MM / min(t1w.spacing)))
    box = bounding_box(inside.data[0], margin=margin)
    image, inside = t1w.crop(box), inside.crop(box)
    image = image.with_data(image.data, "brain: found" if mask is None else "brain: given")
    image = white_matter_one(correct_bias(image, inside, config=config), inside)
    stripped = image.with_data(image.data * inside.data)
    matrix = align(stripped, reference.stripped, kind=config.alignment)
    check_alignment(image, inside, reference, matrix)
    return Prepared(image.with_data(_filled(image, inside), f"{config.alignment} alignment"), inside, matrix)


def check_alignment(image: Volume, inside: Volume, reference: Reference, matrix: np.ndarray) -> tuple[float, float]:
    """Refuse a brain that does not lie in the reference's after alignment, or does not look like it.

    Heads differ in size and a rigid alignment leaves them so; thus not their overlap counts, but the share of the
    smaller brain that lies in the larger one, and the correlation of the images where either brain is.

    Parameters
    ----------
    image, inside : Volume
        The scan and its brain, on one grid.
    reference : Reference
    matrix : numpy.ndarray
        4×4, world of the reference to world of `image` (mm).

    Returns
    -------
    tuple of float
        Share and correlation.

    Raises
    ------
    NbkitError
        Below :data:`LEAST_SHARED` or :data:`LEAST_ALIKE`.
    """
    grid = {"shape": reference.brain.shape, "affine": reference.brain.affine}
    ours, theirs = place(inside, matrix, **grid).data > 0.5, reference.brain.data.bool()
    shared = float((ours & theirs).sum()) / max(min(float(ours.sum()), float(theirs.sum())), 1.0)
    placed, either = place(image.with_data(image.data * inside.data), matrix, **grid).data, ours | theirs
    alike = float(np.corrcoef(placed[either].numpy(), reference.stripped.data[either].numpy())[0, 1])
    require(
        shared >= LEAST_SHARED and alike >= LEAST_ALIKE, "alignment to the template",
        expected=f"a brain that lies in the template's by {LEAST_SHARED:.0%} and correlates with it by {LEAST_ALIKE:g}",
        found=f"{shared:.0%} and {alike:.2f}", remedy="The brain mask is wrong, or the head lies far from upright: "
        "look at its outline on the page of `nbkit data check`, and give a mask or a header that fits.",
    )
    return shared, alike


def correct_bias(image: Volume, inside: Volume, *, config: Config | None = None) -> Volume:
    """Divide `image` by the smooth field that N4 finds in the mask `inside`; its logarithm has mean 0 there.

    References
    ----------
    Tustison et al., IEEE TMI 29:1310-1320, 2010.
    """
    config = config or Config()
    factor = block(image.shape, image.affine, mm=config.bias_mm)
    small = shrink(image.data.float()[None], image.affine, factor)[0][0, 0]
    share = shrink(inside.data.float()[None], image.affine, factor)[0][0, 0]
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations(config.bias_iterations)
    n4.SetNumberOfThreads(1)  # threads change the order of sums, and with it the last digits
    n4.Execute(_to_itk(small, image.spacing, factor), _to_itk((share > 0.5).to(torch.uint8), image.spacing, factor))
    field = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(_to_itk(image.data[0].float(), image.spacing)))
    logarithm = torch.from_numpy(np.ascontiguousarray(field.T)).float()[None]
    logarithm = logarithm - logarithm[inside.data.bool()].mean()
    spread = float(logarithm[inside.data.bool()].std())
    return image.with_data(image.data.float() / logarithm.exp(), f"N4 bias field removed, sd {spread:.3f} in the brain")


def white_matter_one(image: Volume, inside: Volume) -> Volume:
    """Divide a T1w image by its :func:`white_matter_peak`."""
    peak = white_matter_peak(image, inside)
    return image.with_data(image.data / peak, f"white-matter peak of {peak:.5g} to 1")


def white_matter_peak(image: Volume, inside: Volume) -> float:
    """The brightest peak in the histogram of a T1w image inside the brain, in its own unit.

    Raises
    ------
    NbkitError
        If the mask is empty, the image constant inside it, or hardly anything above 0.
    """
    values = image.data[inside.data.bool()].double().numpy()
    require(
        values.size > 0 and values.max() > values.min(), "white_matter_peak: image",
        expected="contrast inside the brain", found=f"{values.size} voxels of one value",
        remedy="Check that the mask belongs to the image.",
    )
    top = float(np.quantile(values, 0.995))
    require(top > 0, "white_matter_peak: image", expected="a brain above 0", found=f"{top:.4g} or less in 99.5 % of it",
            remedy="Bring air to 0 first (nbkit.data.intensity.from_air).")
    counts, edges = np.histogram(values, bins=256, range=(0, top))
    smooth = ndimage.gaussian_filter1d(np.pad(counts, 16).astype(float), 2)
    peaks, _ = signal.find_peaks(smooth, prominence=0.03 * smooth.max())
    return float((edges[:-1] + edges[1:])[peaks[-1] - 16] / 2)


def prepare_files(
    sources: Sequence[Source], reference: Reference, *, shape: tuple[int, int, int], affine: np.ndarray,
    config: Config | None = None, cache: Cache | None = None, n_jobs: int | None = None, progress: bool = True,
    left_out: dict[tuple[str, str], NbkitError] | None = None,
) -> list[Scan]:
    """:func:`prepare` many scans, and put each on one grid of the reference's world.

    What was prepared before comes from the cache: its key is the content of the files, the reference, the grid,
    the settings and the code.

    Parameters
    ----------
    sources : sequence of Source
    reference : Reference
    shape, affine
        The grid, voxel-to-world in mm.
    config, cache : optional
    n_jobs : int, optional
        Scans at a time; by default what ``joblib.parallel_config`` says, with its backend (dask included), else 1.
    progress : bool
        Show a bar with the time left.
    left_out : dict, optional
        Takes up, by subject and session, the refusal of a scan that cannot be prepared; the others are. Without it the
        first such scan is refused.

    Returns
    -------
    list of Scan
        In the order of `sources`: image "T1w" (white-matter peak 1, 0 outside the brain), mask "brain".

    Raises
    ------
    NbkitError
        Naming the file, as :func:`prepare` and :mod:`nbkit.data.nifti` do.
    """
    config, cache = config or Config(), cache or Cache()
    key = {
        "reference": reference.digest, "shape": list(shape), "affine": np.asarray(affine).tolist(),
        "config": config.as_dict(), "source": module_digest(__name__),
    }
    with one_thread():
        jobs = Parallel(n_jobs=n_jobs, return_as="generator")(
            delayed(_tried)(source, reference, shape, affine, config, cache, key) for source in sources
        )
        made, bar = [], tqdm(jobs, total=len(sources), desc="preprocess", unit="scan", disable=not progress)
        for source, entry in zip(sources, bar, strict=True):
            if not isinstance(entry, NbkitError):
                made.append(_scan(source, entry))
            elif left_out is None:
                raise entry
            else:
                left_out[source.subject, source.session] = entry
    return made


def _tried(source: Source, *settings: Any) -> Path | NbkitError:
    """The cache entry of one scan, or why there is none."""
    try:
        return _cached(source, *settings)
    except NbkitError as error:
        return error


def _cached(
    source: Source, reference: Reference, shape: tuple[int, int, int], affine: np.ndarray, config: Config,
    cache: Cache, key: Mapping[str, Any],
) -> Path:
    """The cache entry of one scan."""
    content = {}
    for name, path in (("t1w", source.t1w), ("brain", source.brain)):
        if path is not None:
            nifti.read_grid(path)  # a file that is missing is refused by name before its content is asked for
            content[name] = hashlib.sha256(b"".join(p.read_bytes() for p in files_of(Path(path)))).hexdigest()
    make = functools.partial(_make, source, reference, shape, affine, config, cache)
    found = {} if source.brain else {"brain": brain.finder()}
    return cache.get(KIND, {**key, "content": content, **found}, make, Path)


def _make(
    source: Source, reference: Reference, shape: tuple[int, int, int], affine: np.ndarray, config: Config,
    cache: Cache, folder: Path,
) -> None:
    t1w = nifti.read_image(source.t1w)
    mask = None if source.brain is None else nifti.read_labels(source.brain)
    if mask is not None:
        t1w.check_grid(mask, f"{source.brain} against {source.t1w.name}")
    try:
        with one_thread():
            done = prepare(t1w, reference, config=config, mask=mask, cache=cache)
            inside = done.brain_on(shape, affine)
            lazy.save_volumes(folder / _FILE, {"T1w": done.image_on(inside), "brain": inside})
    except NbkitError as error:
        raise error.at(f"{source.t1w}: {error.where}") from error


def _scan(source: Source, entry: Path) -> Scan:
    t1w, inside = (lazy.load_volume(entry / _FILE, name) for name in ("T1w", "brain"))
    return Scan(source.subject, source.session, None, {"T1w": t1w}, {"brain": inside})


def _filled(image: Volume, inside: Volume) -> torch.Tensor:
    """Data with each voxel outside the brain given the value of the nearest one inside."""
    nearest = ndimage.distance_transform_edt(
        ~inside.data[0].numpy(), sampling=image.spacing, return_distances=False, return_indices=True
    )
    return torch.from_numpy(image.data[0].numpy()[tuple(nearest)])[None]


def _to_itk(values: torch.Tensor, spacing: Sequence[float], factor: Sequence[int] = (1, 1, 1)) -> sitk.Image:
    """An ITK image of (X, Y, Z) block means along the axes of the array, its origin at the first voxel."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.numpy().T))
    spacing, factor = np.array(spacing, dtype=float), np.array(factor)
    image.SetSpacing((spacing * factor).tolist())
    image.SetOrigin((spacing * (factor - 1) / 2).tolist())
    return image
