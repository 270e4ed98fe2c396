"""``nbkit benchmark write ageing``: what may be seen of a task as a plain BIDS data set; true futures stay behind."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from nbkit.benchmark.ageing import Ageing
from nbkit.core.files import write_json, write_text
from nbkit.core.protocols import Scan, Subject, age_of
from nbkit.core.source import module_digest
from nbkit.data.derivatives import write_tables
from nbkit.data.sidecars import read_object
from nbkit.data.text_tables import read_text_table
from nbkit.export import EVERY, Export, Wish
from nbkit.systems import Bench

WANTED, VOLUMES, VISITS, RULES = "wanted.tsv", "volumes.tsv", "visits.tsv", "task.toml"
PARTICIPANTS = "participants.tsv"
TRAINING, TEST = "training", "test"


class GivenOut(Export):
    """The data set of a task in the making; it goes on where a killed one was.

    Parameters
    ----------
    root : path
        A new folder, or one of the same task.
    task : Ageing
    """

    def __init__(self, root: Path, task: Ageing) -> None:
        super().__init__(root, Bench(task.given, task.profile, task.seed, task.device), Wish((), people=EVERY))
        self.task = task

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The task, its hash, and the people."""
        return {**self.task.identity, "Code": module_digest(__name__)}

    def end(self) -> None:
        """Tables, what is wanted, the rules, and the page to read first."""
        write_tables(self.root, dict(self.bench.people.subjects[0].baseline.label_names))
        self._split()
        write_table(self.root / VISITS, pd.DataFrame(
            [(f"sub-{self._subjects[p.id]}", f"ses-{self.task.session(p, s)}", age_of(s), s.diagnosis or p.diagnosis)
             for p in self.people for s in p.scans],
            columns=["participant_id", "session_id", "age", "diagnosis"],
        ))
        if self.task.structures:
            write_table(self.root / VOLUMES, given_volumes(self.task))
        write_table(self.root / WANTED, self.task.wanted)
        write_text(self.root / RULES, self.task.rules.text)
        # the standard knows neither our tables nor the rules
        write_text(self.root / ".bidsignore", "\n".join([VISITS, VOLUMES, WANTED, RULES]) + "\n")
        write_text(self.root / "README.md", readme(self.task))

    def _split(self) -> None:
        """The column "split" of ``participants.tsv``."""
        table = read_text_table(self.root / PARTICIPANTS, ("participant_id",), tabs=True)
        tested = [name.removeprefix("sub-") in self.task.by_label for name in table["participant_id"]]
        table["split"] = [TEST if one else TRAINING for one in tested]
        write_table(self.root / PARTICIPANTS, table)
        about = self.root / "participants.json"
        levels = {TRAINING: "all visits are given", TEST: "the history is given, later visits are asked for"}
        write_json(about, read_object(about) | {"split": {"Description": "Part in the task", "Levels": levels}})


def given_volumes(task: Ageing) -> pd.DataFrame:
    """``volumes.tsv``: subject, session, age, region and value (mm³) of every scan that is given out."""
    rows = []
    for person in task.given:
        place = f"sub-{task.labels[person.id]}"
        for scan, volumes in zip(person.scans, task.volumes[person.id], strict=False):  # the first ones are given
            where = (place, f"ses-{task.session(person, scan)}", round(age_of(scan), 2))
            rows += [(*where, region, value) for region, value in volumes.items()]
    return pd.DataFrame(rows, columns=["subject", "session", "age", "region", "value"])


def write(root: Path, task: Ageing, *, overwrite: bool = False) -> str:
    """Write the data set of a task into `root` (see :class:`GivenOut`); gives a line that says what."""
    made = GivenOut(root, task)
    made.begin(overwrite=overwrite)
    try:
        made.scans()
    finally:
        made.end()
    return (f"{len(task.train)} training people, {len(task.test)} test people, {len(task.asked())} forecasts asked for "
            f"({made.made} images written)")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """A TSV whose numbers come back as they were."""
    write_text(path, table.to_csv(sep="\t", index=False, float_format="%.12g", lineterminator="\n"))


def whom(people: Sequence[Subject]) -> str:
    """How many people, and of which diagnoses."""
    counts = pd.Series([person.diagnosis for person in people]).value_counts()
    return f"{len(people)} people ({', '.join(f'{n} {d}' for d, n in counts.items())})"


def scans_of(people: Sequence[Subject]) -> list[Scan]:
    """All scans of some people."""
    return [scan for person in people for scan in person.scans]


def readme(task: Ageing) -> str:
    """``README.md`` of the data set: what it is, what is asked, and how to answer."""
    wanted, told, volumes = task.asked(), task.people.provenance, bool(task.structures)
    return "\n".join([
        f"# {task.rules.told['title']}", "",
        f"Task {task.rules.id} (sha256 {task.rules.hash[:12]}), cohort {task.people.name}, profile {task.profile}, "
        f"seed {task.seed}, history {task.history}. Asked: {task.wanted_hash}. {task.truth_said}.", "",
        f"- Training: {whom(task.train.subjects)}, {len(scans_of(task.train.subjects))} scans, all given.",
        f"- Test: {whom(task.test.subjects)}; the first {task.seen} of their scans are given, {len(wanted)} later ones "
        "are asked for.", "",
        "| file | |", "|---|---|",
        "| `sub-*/ses-*/anat/*_desc-preproc_T1w.nii.gz` | scans: skull-stripped, aligned, white matter 1, one grid |",
        "| `*_desc-brain_mask.nii.gz`, `*_dseg.nii.gz`, `dseg.tsv` | brain, structures, and their names |",
        "| `participants.tsv` | age at the first scan, sex, diagnosis, split (training or test) |",
        f"| `{VISITS}` | age and diagnosis at every scan given |",
        *[f"| `{VOLUMES}` | mm3 of every region at every scan given: subject, session, age, region, value |"] * volumes,
        f"| `{WANTED}` | what is asked: subject, session (the last scan shown), age, years_ahead, what |",
        f"| `{RULES}` | the frozen rules |", "",
        f"Answer with a folder that holds {'one or both of' if volumes else 'images'}:", "",
        *["- `volumes.tsv`: subject, age, region, value (mm3), and if you like lower and upper, the ends of the "
          "central 50 % interval. Regions as above; lateral_ventricle and hippocampus are ranked."] * volumes,
        "- images `sub-X/ses-Y/anat/sub-X_ses-Y_space-MNI152NLin2009aSym_desc-predictedAge72p35_T1w.nii.gz` for 72.35 "
        "years, ses-Y as in wanted.tsv, on the grid of the scans."
        + " Rows `start` of wanted.tsv may be left out: they are pictures of the last scan's own age, from which "
        "growth is then read." * volumes, "",
        "`entrant.json` may name it and tell its cost: name, seconds_per_forecast, training_hours, memory_mib, "
        "hardware. Whom you leave out counts as no change. Then:", "",
        "    nbkit benchmark judge THIS_FOLDER YOUR_FOLDER --out page.html", "",
        f"Licence: {told.get('licence', '')}. {told.get('attribution', '')}", "",
    ])
