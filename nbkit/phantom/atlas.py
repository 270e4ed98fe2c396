"""The template as an atlas: what real scans are aligned to, and how well its regions meet theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from tqdm.auto import tqdm

from nbkit.core.checks import check_keys, require
from nbkit.core.protocols import Scan
from nbkit.core.volume import Volume
from nbkit.data.grids import block_mean
from nbkit.data.preprocess import Reference
from nbkit.geometry.affine import align, apply_affine, through_affine
from nbkit.geometry.registration import Config, register
from nbkit.geometry.warp import Displacement, warp_each
from nbkit.phantom.anatomy import Template
from nbkit.phantom.parameters import Parameters
from nbkit.phantom.regions import Regions, structure_of, template_maps

_SPACING = 2
"""Voxels of the template, whole mm: as fine as the scans it meets."""
_T1W = (0.7, 1.0, 0.25)
"""Grey matter, white matter and fluid over white matter, close to IXI's; only correlations depend on it."""


def template_reference(template: Template) -> Reference:
    """The template in T1w contrast at 2 mm, white matter at 1, with all inside of the skull as its brain."""
    fractions = block_mean(template.fractions, (_SPACING,) * 3)
    contrast = torch.einsum("c,cxyz->xyz", torch.tensor(_T1W), fractions.data)[None]
    brain = fractions.with_data(fractions.data.sum(dim=0, keepdim=True) > 0.5, "inside of the skull")
    return Reference(fractions.with_data(contrast, "T1w contrast"), brain)


def region_agreement(
    scans: Sequence[Scan], template: Template, parameters: Parameters, *, config: Config | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """How well the template's regions, registered to real brains, meet the labels of those brains.

    Affine alignment, then :func:`nbkit.geometry.registration.register`; the regions come over in one interpolation
    and every voxel goes to the largest share. The result holds what the shapes and what the registration miss.

    Parameters
    ----------
    scans : sequence of Scan
        "T1w" without skull, and labels with the names of :mod:`nbkit.phantom.regions`.
    template : Template
    parameters : Parameters
        Of :data:`nbkit.phantom.regions.AGEING_PARAMETERS`.
    config : nbkit.geometry.registration.Config, optional
    progress : bool

    Returns
    -------
    pandas.DataFrame
        Indexed by structure: ``median``, ``low`` and ``high`` of Dice over the scans (mean of the two sides),
        ``volume_ratio`` (median of ours over theirs), ``n`` scans.

    Raises
    ------
    NbkitError
        If a scan has no labels, or none with a name of a region.
    """
    reference = template_reference(template)
    regions, _ = template_maps(template, parameters, spacing=_SPACING)
    codes = [_codes(scan, regions.names) for scan in scans]
    bar = tqdm(scans, desc="region agreement", unit="scan", disable=not progress)
    brought = (bring_regions(scan, reference, regions, config=config) for scan in bar)
    found = zip(scans, brought, codes, strict=True)
    rows = pd.DataFrame([row for scan, ours, own in found for row in _rows(scan, ours, own)])
    by_scan = rows.groupby(["structure", "subject"], sort=False)[["dice", "ours", "theirs"]].mean()
    return by_scan.assign(ratio=by_scan["ours"] / by_scan["theirs"]).groupby("structure", sort=False).agg(
        median=("dice", "median"), low=("dice", "min"), high=("dice", "max"), volume_ratio=("ratio", "median"),
        n=("dice", "size"),
    )


def bring_regions(scan: Scan, reference: Reference, regions: Regions, *, config: Config | None = None) -> Volume:
    """The template's regions on the grid of a scan's T1w: 1, 2, ... in the order of their names, 0 outside."""
    fixed = scan.image("T1w")
    matrix = align(reference.stripped, fixed, kind="affine")
    start = apply_affine(reference.stripped, matrix, like=fixed)
    found = register(start.data[None], fixed.data[None].float(), affine=fixed.affine, config=config)
    through = through_affine(Displacement(found.displacement), matrix, affine=fixed.affine)
    maps = warp_each(regions.maps.data, through, affine=fixed.affine, image_affine=regions.maps.affine)
    winner = (maps.argmax(dim=0) + 1) * (maps.sum(dim=0) > 0.5)
    return fixed.with_data(winner.to(torch.int32)[None], "regions of the template")


def _codes(scan: Scan, names: tuple[str, ...]) -> dict[str, int]:
    """Code of every region in the scan's labels, -1 for what they lack."""
    require(
        scan.labels is not None, f"region_agreement: {scan.subject}", expected="a scan with labels", found="none",
        remedy="Use a cohort with labels, such as ixi_ageing.",
    )
    scan.image("T1w").check_grid(scan.labels, f"region_agreement: T1w and labels of {scan.subject}")
    theirs = {name: code for code, name in scan.label_names.items()}
    check_keys(theirs, names, f"region_agreement: labels of {scan.subject}")
    return {name: theirs.get(name, -1) for name in names}


def _rows(scan: Scan, ours: Volume, codes: Mapping[str, int]) -> list[dict[str, object]]:
    """Dice and volumes (mm³) of every region."""
    rows = []
    for place, (name, code) in enumerate(codes.items(), start=1):
        a, b = ours.data == place, scan.labels.data == code
        both, sizes = int((a & b).sum()), (int(a.sum()), int(b.sum()))
        row = {"subject": scan.subject, "structure": structure_of(name), "dice": 2 * both / max(sum(sizes), 1)}
        rows.append(row | {"ours": sizes[0] * ours.voxel_volume, "theirs": sizes[1] * ours.voxel_volume})
    return rows
