"""The task "pet": FDG slices of every stage, drawn by anybody, held against people whom nobody saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from nbkit.benchmark.entries import ENTRANT, entrant_told
from nbkit.benchmark.faults import Faults
from nbkit.benchmark.judge_page import credit_of, facts_of
from nbkit.benchmark.small_page import Small
from nbkit.benchmark.tasks import Rules, Task, asked_for
from nbkit.benchmark.write import RULES, WANTED, write_table
from nbkit.cohorts import cohort_for
from nbkit.core.checks import known, require
from nbkit.core.config import digest
from nbkit.core.files import write_json, write_text
from nbkit.core.protocols import Cohort
from nbkit.core.seeds import numpy_generator
from nbkit.core.volume import Volume
from nbkit.data import nifti
from nbkit.data.derivatives import DESCRIPTION
from nbkit.data.pet_slices import ACROSS, STAGES, SUVR_MAX, Slices, field_grid, scaled, slice_table
from nbkit.data.splits import folds, person_of
from nbkit.export import claim, description
from nbkit.papers.pet_dcgan.features import SliceFeatureNet
from nbkit.papers.pet_dcgan.metrics import frechet_distance

COHORTS = ("embedded", "open")
MEAN, TRAINING, HELD = "mean image", "training people", "other held people"
TITLES: Mapping[str, str] = {"distance": "distance from a held person to the nearest image (feature units)"}
Plane = tuple[str, float]
Entry = Mapping[tuple[str, Plane], torch.Tensor]
"""Images (N, 1, S, S) in [−1, 1] by stage and plane."""


@dataclass(frozen=True, eq=False)
class Pet(Task):
    """One cohort of FDG scans, and the people of it who are held.

    Parameters
    ----------
    people : Cohort
    rules : Rules
    level : {"embedded", "open"}
    profile : str
    seed : int
    """

    people: Cohort
    rules: Rules
    level: str
    profile: str
    seed: int

    @property
    def size(self) -> int:
        """Pixels an edge."""
        return self.rules.at("slices", "size", self.profile)

    @cached_property
    def split(self) -> tuple[Slices, Slices]:
        """Slices of the people given out, and of those held, by person."""
        table = slice_table(self.people, per_view=self.rules.at("slices", "per_view", self.profile), size=self.size)
        fold = folds(self.people, self.rules.at("split", "folds", self.profile), seed=self.seed, group_of=person_of)[0]
        person = {s.id: person_of(s) for s in self.people}
        train, held = (table.select(subjects=ids).of_people(person) for ids in (fold.train_ids, fold.test_ids))
        return train, held

    @cached_property
    def wanted(self) -> pd.DataFrame:
        """``wanted.tsv``: stage, view, level_mm, count."""
        held = self.split[1]
        rows = pd.DataFrame({"stage": held.stage, "view": held.view, "level_mm": held.level_mm})
        return rows.groupby(["stage", "view", "level_mm"], sort=False).size().rename("count").reset_index()

    @cached_property
    def asked(self) -> dict[tuple[str, Plane], int]:
        """How many images of each stage and plane."""
        rows = self.wanted.to_dict("records")
        return {(row["stage"], (row["view"], float(row["level_mm"]))): int(row["count"]) for row in rows}

    @property
    def identity(self) -> dict[str, Any]:
        """What a data set says of the task it holds."""
        return self.told(WantedHash=digest([self.wanted.to_numpy().tolist(), list(self.split[0].subjects)]))

    def write(self, root: Path, *, overwrite: bool = False) -> str:
        """Write what may be seen; gives a line that says what."""
        if claim(root, self.identity, overwrite=overwrite):
            write_json(root / DESCRIPTION, description(self.people, self.identity))
        train = self.split[0]
        seen: dict[tuple[str, str, float], int] = {}
        for k, (who, stage, view, level) in enumerate(
            zip(train.subject, train.stage, train.view, train.level_mm, strict=True)
        ):
            place = (who, view, level)
            seen[place] = seen.get(place, 0) + 1
            name = f"{''.join(c for c in who if c.isalnum())}_{seen[place]}_{view}{level:+g}.nii.gz"
            nifti.save_image(root / f"stage-{stage}" / name, self._volume(train.suvr(train.images[k]), (view, level)))
        write_table(root / WANTED, self.wanted)
        write_text(root / RULES, self.rules.text)
        write_text(root / "README.md", self._readme())
        return f"{len(train.subjects)} training people, {self.wanted['count'].sum()} images asked for"

    def _volume(self, image: torch.Tensor, plane: Plane) -> Volume:
        """(1, S, S) uptake ratios as an image one voxel thick, in its place."""
        _, affine = field_grid(self.size, plane=plane)
        return Volume(image.unsqueeze(1 + ACROSS[plane[0]]), affine)

    def _readme(self) -> str:
        return "\n".join([
            f"# {self.rules.told['title']}", "",
            f"Task {self.rules.id} (sha256 {self.rules.hash[:12]}), cohort {self.people.name}, profile {self.profile}, "
            f"seed {self.seed}. {self.truth_said}.", "",
            f"`stage-CN/`, `stage-MCI/`, `stage-AD/`: slices of training people, uptake ratios from 0 to {SUVR_MAX:g}, "
            "each one voxel thick in its place. `wanted.tsv`: how many images of each stage, view and level.", "",
            "Hand in a folder with the same three folders, any names, each image on the grid of the training slices "
            "of its plane. Where there are fewer than wanted, mean images of the stage fill up. Then:", "",
            "    nbkit benchmark judge THIS_FOLDER YOUR_FOLDER --out page.html", "", credit_of(self.people), "",
        ])

    def read(self, folder: Path) -> tuple[str, Entry]:
        """Name and images of one entrant, everything checked.

        Raises
        ------
        NbkitError
            By file and field, all faults at once.
        """
        require(folder.is_dir(), folder.name, expected="a folder of images", found="no such folder",
                remedy="Give the folder that holds stage-CN/, stage-MCI/ and stage-AD/.")
        faults, told = Faults(folder.name), {}
        found: dict[tuple[str, Plane], list[torch.Tensor]] = {}
        with faults.noted():
            told = entrant_told(folder / ENTRANT)
        for path in sorted(folder.glob("stage-*/*.nii*")):
            at = f"{folder.name}/{path.parent.name}/{path.name}"
            with faults.noted():
                key, image = self._slice(path, at)
                found.setdefault(key, []).append(image)
        for (stage, (view, level)), images in found.items():
            count = self.asked.get((stage, (view, level)), 0)
            faults.check(
                len(images) <= count, f"{folder.name}/stage-{stage}, {view} {level:g} mm", expected=f"{count} images",
                found=len(images), remedy="More bring nearer ones by chance: hand in as many as wanted.tsv says.",
            )
        faults.check(bool(found), folder.name, expected="images in stage-CN/, stage-MCI/, stage-AD/", found="none",
                     remedy="wanted.tsv says how many of which.")
        faults.settle()
        return told.get("name", folder.resolve().name), {key: torch.stack(images) for key, images in found.items()}

    def _slice(self, path: Path, at: str) -> tuple[tuple[str, Plane], torch.Tensor]:
        stage = known(path.parent.name.removeprefix("stage-"), STAGES, f"{at}: stage")
        shape, affine = nifti.read_grid(path)
        planes = {plane: field_grid(self.size, plane=plane) for _, plane in self.asked}
        plane = next((p for p, (s, a) in planes.items() if s == tuple(shape) and abs(a - affine).max() < 1e-2), None)
        require(plane is not None, f"{at}: grid", expected="the grid of a training slice", found=f"{tuple(shape)}",
                remedy="Write shape and affine of a training slice of the same plane.")
        values = nifti.read_image(path).data.float()
        require(bool((values > 0).any()), f"{at}: brain", expected="uptake ratios above 0", found="none",
                remedy="Look at the file: it is empty.")
        return (stage, plane), scaled(values.squeeze(1 + ACROSS[plane[0]]), SUVR_MAX)

    def judge(self, entries: Sequence[tuple[str, Entry]]) -> Small:
        """Entrants beside the mean image, training people, and other people who are held."""
        train, held = self.split
        net, rng, rows, frechet = SliceFeatureNet().fit(train.images), numpy_generator(self.seed, "pet task"), [], []
        for (stage, plane), count in self.asked.items():
            past, there = (self._at(table, stage, plane) for table in (train, held))
            mean = past.images.mean(dim=0, keepdim=True)
            drawn = past.images[torch.from_numpy(rng.permutation(len(past))[:count])]
            sets = {MEAN: mean, TRAINING: drawn}
            for name, images in entries:
                own = images.get((stage, plane), mean[:0])
                sets[name] = torch.cat([own, mean.expand(count - len(own), -1, -1, -1)])
            rows += [(stage, name, who, d) for name, x in sets.items()
                     for who, d in zip(there.subject, torch.cdist(net(there.images), net(x)).amin(dim=1).tolist())]
            apart = torch.cdist(net(there.images), net(there.images))
            same = np.array(there.subject)[:, None] == np.array(there.subject)
            nearest = torch.where(torch.from_numpy(same), torch.inf, apart).amin(dim=1).tolist()
            rows += [(stage, HELD, who, d) for who, d in zip(there.subject, nearest) if np.isfinite(d)]
            if count > 1:
                frechet += [(stage, name, frechet_distance(net(x), net(there.images))) for name, x in sets.items()
                            if len(x) > 1]
        frame = pd.DataFrame(rows, columns=["stage", "system", "subject", "value"])
        means = frame.groupby(["system", "subject"], sort=False)["value"].mean().reset_index()
        far = pd.DataFrame(frechet, columns=["stage", "system", "value"])
        handed = {name: f"{sum(map(len, images.values()))} images" for name, images in entries}
        metrics = self.rules.told["metrics"]
        return Small(
            lead=f"{self.rules.told['title']}: {sum(self.asked.values())} images against {len(held.subjects)} people.",
            facts=facts_of(self.identity, self.truth_said, handed),
            names=tuple(name for name, _ in entries), titles=TITLES, control=metrics["control"],
            frame=means.assign(id="", unit="feature units", metric="distance"), credit=credit_of(self.people),
            how="Distances in the feature space of notebook 07 (random convolutions, scaled on training people), of "
                "one stage and plane at a time, mean over a person's slices; small is near, and no merit by itself: "
                "the mean image is near everybody. The Fréchet distance compares sets. The rules are frozen in "
                "the file of the task, whose hash stands above.",
            forgotten=self._short(entries), seed=metrics["bootstrap_seed"],
            tables=((far.pivot_table("value", "system", "stage", sort=False),
                     "Squared Fréchet distance to the people held, mean over planes"),) if len(far) else (),
        )

    @staticmethod
    def _at(table: Slices, stage: str, plane: Plane) -> Slices:
        rows = zip(table.stage, table.view, table.level_mm, strict=True)
        return table.at([k for k, (s, v, z) in enumerate(rows) if (s, (v, float(z))) == (stage, plane)])

    def _short(self, entries: Sequence[tuple[str, Entry]]) -> tuple[str, ...]:
        lines = []
        for name, images in entries:
            left = {key: count - len(images.get(key, ())) for key, count in self.asked.items()}
            lost = [f"{stage} {view} {level:g} mm ({n})" for (stage, (view, level)), n in left.items() if n]
            if lost:
                few = f"{name}: {sum(left.values())} images too few, filled up by mean images: "
                lines.append(few + ", ".join(lost))
        return tuple(lines)


def open_pet(
    level: str, *, task: str = "pet", profile: str = "laptop", seed: int | None = None, n_jobs: int = 1,
) -> Pet:
    """The task on a cohort; see :func:`nbkit.benchmark.ageing.open_task`."""
    frozen, seed = asked_for(task, level, profile, seed, cohorts=COHORTS)
    people = cohort_for(level, task="pet", profile=profile, seed=seed, n_jobs=n_jobs)
    return Pet(people, frozen, level, profile, seed)
