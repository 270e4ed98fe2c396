"""A made-up Dallas Lifespan Brain Study: its names and columns, heads of IXI that grow, the hashes of those bytes."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from nbkit.core.volume import Volume
from nbkit.data import nifti
from nbkit.data.manifest import MANIFESTS, load_manifest

REACH_MM = 25.0
YEARS = (0.0, 4.03, 9.03)


def grown(head: Volume, amount: float, centre: np.ndarray) -> Volume:
    """The head with what lies around `centre` (world mm) pushed outwards, by `amount` of its distance in the middle."""
    index = np.indices(head.shape).reshape(3, -1)
    world = head.affine[:3, :3] @ index + head.affine[:3, 3:]
    away = world - centre[:, None]
    share = amount * np.exp(-(away**2).sum(0) / (2 * REACH_MM**2))
    source = np.linalg.inv(head.affine[:3, :3]) @ (world - share * away - head.affine[:3, 3:])
    values = ndimage.map_coordinates(head.data[0].numpy().astype(np.float32), source, order=1, mode="nearest")
    return head.with_data(torch.from_numpy(values.reshape(head.shape))[None])


def ixi_heads(count: int) -> list[tuple[Volume, np.ndarray]]:
    """T1w heads of the mirror with the middle of their lateral ventricles (world mm)."""
    manifest, heads = load_manifest("ixi_ageing"), []
    for roles in list(manifest.subjects().values())[:count]:
        labels = nifti.read_labels(manifest.locate(roles["labels"]))
        where = np.argwhere(np.isin(labels.data[0].numpy(), (51, 52))).mean(0)
        centre = labels.affine[:3, :3] @ where + labels.affine[:3, 3]
        heads.append((nifti.read_image(manifest.locate(roles["T1w"])), centre))
    return heads


def scans_of(heads: Sequence[tuple[Volume, np.ndarray]], folder: Path) -> dict[str, bytes]:
    """By path, the bytes of three waves of everybody, with a little noise of their own; the last person has two."""
    rng, found = np.random.default_rng(5), {}
    for k, (head, centre) in enumerate(heads):
        who = f"sub-{1001 + k}"
        for wave in range(2 if k == len(heads) - 1 else 3):
            made = grown(head, 0.03 * YEARS[wave] / 4, centre)
            noise = torch.from_numpy(rng.normal(0, 0.005 * float(made.data.max()), made.shape)).float()
            made = made.with_data((made.data + noise).clamp(min=0).round())
            name = f"{who}/ses-wave{wave + 1}/anat/{who}_ses-wave{wave + 1}_acq-MPRAGE_run-{1 + (wave == 2)}_T1w.nii.gz"
            file = nifti.save_image(folder / "made.nii.gz", made)
            found[name] = Path(file).read_bytes()
    return found


def write_manifest(scans: Mapping[str, bytes], folder: Path, address: str) -> Path:
    """The committed ``cohort.toml`` with another address and other counts, and a ``files.tsv`` of these scans."""
    everybody = {path.split("/")[0] for path in scans}
    three = {who for who in everybody if sum(path.startswith(f"{who}/") for path in scans) == 3}
    counts = {"subjects": len(everybody), "files": len(scans), "default_subjects": len(three),
              "default_files": 3 * len(three)}
    toml = (MANIFESTS / "dlbs" / "cohort.toml").read_text(encoding="utf-8")
    toml = re.sub(r'(?m)^base_url = .*$', f'base_url = "{address}/ds004856/"', toml)
    for name, count in counts.items():
        toml = re.sub(rf"(?m)^{name} = \d+$", f"{name} = {count}", toml)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cohort.toml").write_text(toml, encoding="utf-8")
    with (folder / "files.tsv").open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream, delimiter="\t", lineterminator="\n")
        rows.writerow("path bytes sha256 version participant session more age years sex mmse".split())
        for path, body in sorted(scans.items()):
            who, session = path.split("/")[0], path.split("/")[1].removeprefix("ses-")
            wave, k = int(session[-1]), int(who.removeprefix("sub-")) - 1001
            rows.writerow([
                path, len(body), hashlib.sha256(body).hexdigest(), f"v{k}.{wave}", who, session,
                "" if who in three else 1, 58 + 2 * k + (0, 4, 9)[wave - 1], YEARS[wave - 1], "mf"[k % 2],
                "n/a" if (k, wave) == (0, 2) else 29,
            ])
    return folder
