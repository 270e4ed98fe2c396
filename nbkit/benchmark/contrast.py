"""The task "contrast": FLAIR from the other sequences, or PIB DVR from four maps; the target of test people is held."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from nbkit.benchmark.entries import ENTRANT, entrant_told
from nbkit.benchmark.entry_images import check_image
from nbkit.benchmark.faults import Faults
from nbkit.benchmark.judge_page import credit_of, facts_of
from nbkit.benchmark.small_page import Small, people_lines
from nbkit.benchmark.tasks import Rules, Task, asked_for
from nbkit.benchmark.write import PARTICIPANTS, RULES, TEST, TRAINING, WANTED, write_table
from nbkit.cohorts import cohort_for, noise_free
from nbkit.core.checks import closest, known, require
from nbkit.core.config import digest
from nbkit.core.files import write_json, write_text
from nbkit.core.protocols import Cohort, Subject
from nbkit.core.tidy import stacked, where
from nbkit.core.volume import Volume
from nbkit.data import nifti
from nbkit.data.derivatives import DESCRIPTION, labels_of
from nbkit.data.splits import Fold, folds
from nbkit.export import claim, description
from nbkit.figures.sheets import method_comparison
from nbkit.papers.flair.metrics import FlairScore
from nbkit.papers.myelin.metrics import MyelinScore
from nbkit.papers.synthesis import room

COHORTS, TARGETS = ("embedded", "open"), ("FLAIR", "DVR")
TITLES: Mapping[str, str] = {
    "mse": "MSE in the brain (z²)", "mse_own": "MSE after own scale and offset (z²)", "ssim": "SSIM in the brain",
    "mse_brain": "MSE in the brain (DVR²)", "discrepancy_lesions": "error of the mean in lesions (DVR)",
    "discrepancy_nawm": "error of the mean in normal-appearing white matter (DVR)",
}
BESIDE = ("mean", "linear", "reach", "floor")
"""Controls, what a ready-made learner reaches on the same people, and the truth without noise."""
_NAME = re.compile(
    r"sub-(?P<subject>[A-Za-z0-9]+)_ses-(?P<session>[A-Za-z0-9]+)_desc-predicted[A-Za-z0-9]*_(?P<suffix>[A-Za-z0-9]+)"
    r"\.nii(\.gz)?")
_DATA = "anat"


@dataclass(frozen=True, eq=False)
class Contrast(Task):
    """One target on one cohort, with its truth.

    Parameters
    ----------
    people : Cohort
    rules : Rules
    level : {"embedded", "open"}
    target : {"FLAIR", "DVR"}
    profile : str
    seed : int
    """

    people: Cohort
    rules: Rules
    level: str
    target: str
    profile: str
    seed: int

    @property
    def inputs(self) -> tuple[str, ...]:
        """The contrasts that are shown of everybody."""
        told = self.rules.told["targets"][self.target]["inputs"]
        return tuple(n for n in self.people.subjects[0].baseline.images if n != self.target) if isinstance(
            told, str) else tuple(told)

    @cached_property
    def fold(self) -> Fold:
        """Who trains and who is tested."""
        return folds(self.people, self.rules.at("split", "folds", self.profile), seed=self.seed)[0]

    @cached_property
    def labels(self) -> Mapping[str, str]:
        """BIDS label of everybody."""
        return labels_of(self.people.ids, "subject")

    @cached_property
    def tested(self) -> Mapping[str, Subject]:
        """Test people by BIDS label."""
        return {self.labels[id]: self.people.subject(id) for id in self.fold.test_ids}

    def session(self, person: Subject) -> str:
        """BIDS label of the first scan."""
        return labels_of([person.baseline.session], f"session of {person.id}")[person.baseline.session]

    @property
    def wanted(self) -> pd.DataFrame:
        """``wanted.tsv``: subject, session, contrast."""
        rows = [(f"sub-{label}", f"ses-{self.session(p)}", self.target) for label, p in self.tested.items()]
        return pd.DataFrame(rows, columns=["subject", "session", "contrast"])

    @property
    def identity(self) -> dict[str, Any]:
        """What a data set says of the task it holds."""
        wanted = digest([self.wanted.to_numpy().tolist(), list(self.fold.train_ids), list(self.inputs)])
        return self.told(Target=self.target, WantedHash=wanted)

    def write(self, root: Path, *, overwrite: bool = False) -> str:
        """Write what may be seen; gives a line that says what."""
        if claim(root, self.identity, overwrite=overwrite):
            write_json(root / DESCRIPTION, description(self.people, self.identity))
        for person in self.people:
            scan, place = person.baseline, self._folder(root, self.labels[person.id], self.session(person))
            shown = self.inputs if self.labels[person.id] in self.tested else (*self.inputs, self.target)
            for name in shown:
                nifti.save_image(place.with_name(f"{place.name}_desc-preproc_{name}.nii.gz"), scan.image(name))
            nifti.save_labels(place.with_name(f"{place.name}_desc-brain_mask.nii.gz"), scan.mask("brain"))
        write_table(root / WANTED, self.wanted)
        write_table(root / PARTICIPANTS, pd.DataFrame([
            (f"sub-{self.labels[p.id]}", p.sex, p.diagnosis, TEST if self.labels[p.id] in self.tested else TRAINING)
            for p in self.people], columns=["participant_id", "sex", "diagnosis", "split"]).fillna("n/a"))
        write_text(root / RULES, self.rules.text)
        write_text(root / ".bidsignore", f"{WANTED}\n{RULES}\n**/anat/*\n")
        write_text(root / "README.md", self._readme())
        counts = f"{len(self.fold.train_ids)} training people, {len(self.tested)} test people"
        return f"{counts}, whose {self.target} is asked for"

    @staticmethod
    def _folder(root: Path, label: str, session: str) -> Path:
        return root / f"sub-{label}" / f"ses-{session}" / _DATA / f"sub-{label}_ses-{session}"

    def _readme(self) -> str:
        return "\n".join([
            f"# {self.rules.told['title']}", "",
            f"Task {self.rules.id} (sha256 {self.rules.hash[:12]}), target {self.target}, cohort {self.people.name}, "
            f"profile {self.profile}, seed {self.seed}. {self.truth_said}.", "",
            f"`sub-*/ses-*/anat/*_desc-preproc_*.nii.gz`: {', '.join(self.inputs)} of everybody, {self.target} of "
            "training people alone (`participants.tsv`: split). `wanted.tsv` says whose is asked for.", "",
            f"Hand in `sub-X/ses-Y/anat/sub-X_ses-Y_desc-predicted_{self.target}.nii.gz` on the grid and in "
            "the unit of the training people's; `entrant.json` may name it. Whom you leave out counts as the training "
            "mean. Then:", "",
            "    nbkit benchmark judge THIS_FOLDER YOUR_FOLDER --out page.html", "",
            credit_of(self.people), "",
        ])

    def read(self, folder: Path) -> tuple[str, dict[str, Path]]:
        """Name and images by BIDS label of one entrant, everything checked.

        Raises
        ------
        NbkitError
            By file and field, all faults at once.
        """
        require(folder.is_dir(), folder.name, expected="a folder of images", found="no such folder",
                remedy="Give the folder that holds sub-*/.")
        faults, found, told = Faults(folder.name), {}, {}
        with faults.noted():
            told = entrant_told(folder / ENTRANT)
        for path in sorted(folder.glob("sub-*/**/*.nii*")):
            at = f"{folder.name}/{path.relative_to(folder).as_posix()}"
            with faults.noted():
                label = self._whose(path, at)
                require(label not in found, at, expected="one image of a person", found="another",
                        remedy="Remove one of the two.")
                found[label] = path
                scan = self.tested[label].baseline
                check_image(path, like=scan.image(self.inputs[0]), mask=scan.mask("brain"), where=at)
        faults.check(bool(found), folder.name, expected=f"images named sub-X_ses-Y_desc-predicted_{self.target}.nii.gz",
                     found="none", remedy="wanted.tsv says whose.")
        faults.settle()
        return told.get("name", folder.resolve().name), found

    def _whose(self, path: Path, at: str) -> str:
        match = _NAME.fullmatch(path.name)
        require(
            match is not None and match["suffix"] == self.target, at, found=path.name,
            expected=f"sub-X_ses-Y_desc-predicted_{self.target}.nii.gz", remedy="Rename the file, or move it away.",
        )
        label = match["subject"]
        require(label in self.tested, f"{at}: subject", expected="a test person of wanted.tsv", found=repr(label),
                remedy=f"{closest(label, self.tested)}Hand in those whom wanted.tsv lists.")
        session = self.session(self.tested[label])
        require(match["session"] == session, f"{at}: session", expected=f"ses-{session}",
                found=f"ses-{match['session']}", remedy="Name the session that wanted.tsv gives.")
        return label

    def judge(self, entries: Sequence[tuple[str, Mapping[str, Path]]]) -> Small:
        """Entrants beside the training mean, a line through voxels, the reach, and the truth without noise."""
        score = FlairScore(self.people, self.target) if self.target == "FLAIR" else MyelinScore(self.people)
        config = room.Config.for_profile(self.profile, inputs=self.inputs, target=self.target, seed=self.seed)
        beside = room.room(self.people, [self.fold], config=config, score=score, only=BESIDE,
                           noise_free=noise_free(self.people, self.target))
        mean = beside[beside["system"] == "mean"]
        rows, lacking = [beside], {}
        for name, images in entries:
            scored = {self.tested[label].id: score(self.tested[label], self._image(path, self.tested[label]))
                      for label, path in images.items()}
            own = [(who, metric, value) for who, values in scored.items() for metric, value in values.items()]
            frame = pd.DataFrame(own, columns=["subject", "metric", "value"]).assign(system=name, id="", unit="")
            lacking[name] = [label for label in self.tested if label not in images]
            lost = mean["subject"].isin([self.tested[label].id for label in lacking[name]])
            rows += [frame, mean[lost].assign(system=name)]
        frame = stacked(*rows).dropna(subset="value")
        ranked, metrics = self.rules.told["targets"][self.target]["ranked"], self.rules.told["metrics"]
        return Small(
            lead=f"{self.rules.told['title']}: {self.target} of {len(self.tested)} people, from "
                 f"{', '.join(self.inputs)}.",
            facts=facts_of(self.identity, self.truth_said, {name: f"{len(i)} images" for name, i in entries}),
            names=tuple(name for name, _ in entries), frame=frame, titles={m: TITLES[m] for m in ranked},
            control=metrics["control"], seed=metrics["bootstrap_seed"],
            forgotten=people_lines(lacking, len(self.tested), "the training mean"),
            how="Scored inside the brain as notebooks 01 to 03 score; a person without an image counts as the mean of "
                "the training people. The rules are frozen in the file of the task, whose hash stands above.",
            credit=credit_of(self.people), pictures=tuple(self._pictures(entries, frame)),
        )

    @staticmethod
    def _image(path: Path, subject: Subject) -> Volume:
        like = subject.baseline.mask("brain")
        return Volume(nifti.read_image(path).data * like.data.bool(), like.affine)

    def _pictures(self, entries: Sequence[tuple[str, Mapping[str, Path]]], frame: pd.DataFrame):
        metric = self.rules.told["targets"][self.target]["ranked"][0]
        for name, images in entries:
            own = where(frame, system=name, metric=metric).set_index("subject")["value"].sort_values()
            for said, who in {"worst": own.index[-1], "median": own.index[(len(own) - 1) // 2]}.items():
                label, subject = self.labels[who], self.people.subject(who)
                if label in images:
                    masks = {"lesions": m} if (m := subject.baseline.masks.get("lesions")) is not None else {}
                    made = {name: self._image(images[label], subject)}
                    yield method_comparison(
                        subject.baseline.image(self.target), made, brain=subject.baseline.mask("brain"), **masks,
                        truth_name=f"True {self.target}"), f"{name}: {said} person, sub-{label}"


def open_contrast(
    level: str, *, task: str = "contrast", target: str = "FLAIR", profile: str = "laptop", seed: int | None = None,
    n_jobs: int = 1,
) -> Contrast:
    """The task on a cohort; see :func:`nbkit.benchmark.ageing.open_task`."""
    frozen, seed = asked_for(task, level, profile, seed, cohorts=COHORTS)
    known(target, TARGETS, "--target")
    asked = frozen.told["targets"][target]["cohort"]
    people = cohort_for(level, task=asked, profile=profile, seed=seed, n_jobs=n_jobs)
    return Contrast(people, frozen, level, target, profile, seed)
