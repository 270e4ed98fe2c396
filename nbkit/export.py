"""`nbkit export`: what preprocessing and every trajectory system make of a cohort, as BIDS derivatives. Rank 6."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import typer
from tqdm.auto import tqdm

from nbkit import __version__, shipped
from nbkit.cohorts import cohort_for
from nbkit.core.checks import NbkitError, known, require
from nbkit.core.config import PROFILES
from nbkit.core.files import write_json, write_text
from nbkit.core.protocols import Cohort, Scan, Segmenter, Subject, TrajectoryModel, age_of
from nbkit.core.shelf import sweep
from nbkit.core.source import module_digest
from nbkit.core.volume import Volume
from nbkit.data.derivatives import (
    AGAIN, BIDS_VERSION, DESCRIPTION, Derived, labels_of, predicted_desc, write_tables,
)
from nbkit.data.manifest import list_manifests, load_manifest
from nbkit.data.sidecars import read_object
from nbkit.data.text_tables import read_text_table
from nbkit.figures.marks import ESTIMATES, TRAJECTORIES
from nbkit.metrics.regions import regional_volumes
from nbkit.systems import DEFORMS, LAST, SYSTEMS, Bench, Prediction, asked, weights_hash

log = logging.getLogger(__name__)
app = typer.Typer()

LEFT_OUT = "left_out.tsv"
AHEAD = "2,4,6"
EVERY, NONE, TEST, VISITS = "all", "none", "test", "visits"
_T1W = "T1w"
_TITLES = {**TRAJECTORIES, **ESTIMATES}


@dataclass(frozen=True)
class Wish:
    """What is asked for.

    Parameters
    ----------
    systems : tuple of str
        Of :data:`nbkit.systems.SYSTEMS`; empty for the scans alone.
    people : str
        "test" (nobody whom a system learned from), "all", a number (the first of the test people), or ids with commas.
    ahead, ages : tuple of float
        Years after the last scan shown, and ages in years.
    visits : bool
        Also the ages of the later visits, to compare with them.
    seen : int or None
        Scans that systems are shown, the first ones; None for all.
    """

    systems: tuple[str, ...]
    people: str = TEST
    ahead: tuple[float, ...] = ()
    ages: tuple[float, ...] = ()
    visits: bool = False
    seen: int | None = None

    @classmethod
    def of(cls, *, system: str, people: str, ahead: str, ages: str, seen: str) -> Wish:
        """From the words of the command line; what is no system, number or age is refused by option."""
        systems = tuple(SYSTEMS) if system == EVERY else () if system == NONE else _words(system)
        for name in systems:
            known(name, (*SYSTEMS, EVERY, NONE), "--system")
        visits, years = ages == VISITS, _numbers("--ahead", ahead)
        asked, whole = () if visits else _numbers("--ages", ages), seen.isdecimal() and int(seen) > 0
        bad = [a for a in asked if not 1.2 < a <= 120] + [a for a in years if not -60 <= a <= 60]
        require(
            not bad and (seen == EVERY or whole), "--ages, --ahead, --seen", found=f"{bad or seen}",
            expected="ages from 1.2 to 120 years, at most 60 years ahead, at least one scan seen",
            remedy="--ages takes ages, --ahead the years after the last scan shown, --seen a number of scans or all.",
        )
        return cls(systems, people, years, asked, visits, int(seen) if whole else None)

    def of_whom(self, bench: Bench) -> list[Subject]:
        """The people asked for."""
        everyone = {s.id: s for s in bench.people}
        if self.people == EVERY or (self.people == TEST and not self.systems):
            return list(everyone.values())
        if self.people not in everyone and (self.people == TEST or self.people.isdecimal()):
            return list(bench.split[1])[: int(self.people) if self.people.isdecimal() else None]
        return [everyone[known(name, everyone, "--people")] for name in _words(self.people)]

    def history(self, person: Subject) -> Sequence[Scan]:
        """The scans that systems are shown of a person."""
        require(
            self.seen is None or len(person.scans) >= self.seen, f"{person.id}", expected=f"{self.seen} scans to show",
            found=len(person.scans), remedy="Show fewer with --seen.",
        )
        return person.scans[: self.seen]

    def asked(self, person: Subject) -> list[float]:
        """Ages to predict, to hundredths of a year."""
        history = self.history(person)
        later = [age_of(s) for s in person.scans[len(history):]] if self.visits else []
        ages = [*(age_of(history[-1]) + years for years in self.ahead), *self.ages, *later]
        require(
            bool(ages), f"{person.id}", expected="an age to predict", found="none: no visit after those shown",
            remedy="Give --ahead or --ages, or show fewer scans with --seen.",
        )
        return list(dict.fromkeys(round(age, 2) for age in ages))


def _words(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in _words(text))
    except ValueError:
        raise NbkitError(
            option, expected="numbers with commas between them, such as 2,4.5", found=repr(text),
            remedy="Write decimals with a point.",
        ) from None


class Export:
    """A derivatives data set in the making.

    Parameters
    ----------
    root : Path
    bench : Bench
    wish : Wish
    """

    def __init__(self, root: Path, bench: Bench, wish: Wish) -> None:
        self.root, self.bench, self.wish = root, bench, wish
        self.left_out: dict[tuple[str, str, str, str], str] = {}
        self.made = 0
        self._subjects = labels_of(bench.people.ids, "subject")

    @cached_property
    def people(self) -> list[Subject]:
        """Who is exported."""
        return self.wish.of_whom(self.bench)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What all images of one data set share."""
        told = self.bench.people.provenance
        return {
            "Cohort": self.bench.people.name, "Profile": self.bench.profile, "Seed": self.bench.seed,
            "DataHash": told.get("data_hash"), "Code": module_digest(__name__),
        }

    def begin(self, *, overwrite: bool) -> None:
        """Take the folder: a new one, or one that an export of the same began; see :func:`claim`."""
        if claim(self.root, self.identity, overwrite=overwrite):
            write_json(self.root / DESCRIPTION, description(self.bench.people, self.identity))
        if self.bench.people.access == "restricted":
            write_text(self.root / ".gitignore", "*\n")

    def scans(self) -> None:
        """Prepared T1w, brain mask and, where there are, labels of every scan of the people."""
        for person in tqdm(self.people, desc="scans", unit="person"):
            for scan in person.scans:
                self._keep(self._prepared(person, scan), lambda scan=scan: scan.image(_T1W))
                if "brain" in scan.masks:
                    facts = {"Description": "Brain", "Type": "Brain", "Sources": [self._prepared(person, scan).uri]}
                    self._keep(self._derived(person, scan, "mask", "brain", facts), lambda s=scan: s.mask("brain"))
                if scan.labels is not None:
                    facts = {"Description": self.bench.labels_said, "Sources": [self._prepared(person, scan).uri]}
                    self._keep(self._derived(person, scan, "dseg", "", facts), lambda s=scan: s.labels)

    def predictions(self, name: str) -> None:
        """Every image of one system; whom it refuses is left out, with the reason."""
        try:
            model = self.bench.model(name)
            segmenter = self.bench.segmenter if name not in DEFORMS else None
        except NbkitError as error:
            self._leave_out("", "", name, "", error, said="it cannot be trained: ")
            return
        about = {
            "System": name, "Model": type(model).__name__, "Settings": model.config.as_dict(),
            "Seed": self.bench.seed, "Profile": self.bench.profile, "WeightsSHA256": weights_hash(model),
            "TrainingPeople": len(self.bench.train),
        }
        for person in tqdm(self.people, desc=name, unit="person"):
            try:
                wanted = self._wanted(person, name, about)
                todo = {age: image for age, image in wanted.items() if not image.is_in(self.root)}
                for age, forecast in self._forecasts(model, segmenter, person, list(todo), name):
                    self._write(todo[age], forecast)
            except NbkitError as error:
                self._leave_out(person.id, "", name, "", error)

    def end(self) -> None:
        """Tables, what was left out, and the page to read first."""
        names = dict(self.bench.people.subjects[0].baseline.label_names)
        write_tables(self.root, names)
        told = self._left_out_before() | self.left_out
        columns = ("participant_id", "session_id", "system", "age", "reason")
        lines = ["\t".join(columns), *("\t".join([*(v or "n/a" for v in key), why]) for key, why in told.items())]
        write_text(self.root / LEFT_OUT, "\n".join(lines) + "\n")
        write_text(self.root / ".bidsignore", f"{LEFT_OUT}\n")
        write_text(self.root / "README.md", readme(self.bench.people, self.identity, len(told)))

    def _left_out_before(self) -> dict[tuple[str, ...], str]:
        """What an earlier export into the same folder left out, but for what this one asked for again."""
        if not (self.root / LEFT_OUT).is_file():
            return {}
        table = read_text_table(self.root / LEFT_OUT, ("system", "reason"), tabs=True).replace("n/a", "")
        rows = table[~table["system"].isin(self.wish.systems)]
        return {tuple(row[:4]): row[4] for row in rows.itertuples(index=False)}

    def _sessions(self, person: Subject) -> dict[str, str]:
        return labels_of((scan.session for scan in person.scans), f"session of {person.id}")

    def _derived(self, person: Subject, scan: Scan, suffix: str, desc: str, facts: Mapping[str, Any]) -> Derived:
        return Derived(self._subjects[person.id], self._sessions(person)[scan.session], suffix, desc, facts)

    def _prepared(self, person: Subject, scan: Scan) -> Derived:
        provenance = self.bench.people.provenance
        counted = regional_volumes(scan.labels, scan.label_names) if scan.labels is not None else {}
        if "brain" in scan.masks:
            counted["brain"] = regional_volumes(scan.mask("brain"), {1: "brain"})["brain"]
        return self._derived(person, scan, _T1W, "preproc", {
            "Description": f"T1w, {provenance.get('alignment', 'prepared')}", "SkullStripped": True, **self._unit,
            "Age": age_of(scan), "Sex": person.sex, "Diagnosis": scan.diagnosis or person.diagnosis,
            "SourceSubject": person.id, "SourceSession": scan.session,
            "Volumes": counted, "VolumesFrom": "labels and mask of the scan, counted" if counted else "",
        })

    @property
    def _unit(self) -> dict[str, str]:
        scale = self.bench.people.provenance.get("intensity", "that of the cohort")
        return {"Units": "arbitrary", "IntensityScale": scale}

    def _wanted(self, person: Subject, name: str, about: Mapping[str, Any]) -> dict[float, Derived]:
        """By age, the images asked for of one person."""
        history = self.wish.history(person)[-1 if name in LAST else 0:]
        shown = "1 scan" if len(history) == 1 else f"{len(history)} scans"
        return {
            age: self._derived(person, history[-1], _T1W, predicted_desc(name, age), {
                "Description": f"T1w at {age:g} years as {_TITLES[name].title} predicts it from {shown}",
                "Sources": [self._prepared(person, scan).uri for scan in history], "SkullStripped": True, **self._unit,
                **about, "PredictedAge": age, "YearsAhead": round(age - age_of(history[-1]), 2),
                "DiagnosisTold": person.diagnosis, "TrainedOnThisPerson": person.id in self.bench.train.ids,
            }) for age in self.wish.asked(person)
        }

    def _forecasts(
        self, model: TrajectoryModel, segmenter: Segmenter | None, person: Subject, ages: Sequence[float], name: str
    ) -> Iterator[tuple[float, Prediction]]:
        """Forecasts by age; where a system refuses them together, each age for itself."""
        history = self.wish.history(person)
        ask = asked(model, history, person.diagnosis, segmenter)
        try:
            yield from zip(ages, ask(ages) if ages else (), strict=True)
            return
        except NbkitError as error:
            if len(ages) == 1:
                self._leave_out(person.id, history[-1].session, name, f"{ages[0]:g}", error)
                return
        for age in ages:
            yield from self._forecasts(model, segmenter, person, [age], name)

    def _write(self, image: Derived, forecast: Prediction) -> None:
        facts = {**image.facts, "Volumes": forecast.volumes, "VolumesFrom": forecast.read_from}
        if forecast.labels is not None:
            about = {k: v for k, v in facts.items() if k not in ("SkullStripped", "Volumes", "VolumesFrom")}
            told = {**about, "Description": f"Structures: {forecast.read_from}", "Sources": [image.uri]}
            replace(image, suffix="dseg", facts=told).write(self.root, forecast.labels)
        replace(image, facts=facts).write(self.root, forecast.image)
        self.made += 1

    def _keep(self, image: Derived, volume: Callable[[], Volume]) -> None:
        if not image.is_in(self.root):
            image.write(self.root, volume())
            self.made += 1

    def _leave_out(
        self, person: str, session: str, system: str, age: str, error: NbkitError, *, said: str = "",
    ) -> None:
        if isinstance(error.__cause__, OSError):  # a disk without room is nobody's fault
            raise error
        why = " ".join(f"{said}{error}".split())
        self.left_out[person, session, system, age] = why
        log.warning("%s left out: %s", " ".join(filter(None, (system, person, session, age))), why)


def claim(root: Path, identity: Mapping[str, Any], *, overwrite: bool) -> bool:
    """Whether the folder is to be begun: True for a new one, False for one that goes on.

    Raises
    ------
    NbkitError
        For a folder with other things in it, which is never touched, or an export of something else without
        `overwrite`.
    """
    if root.is_dir() and any(root.iterdir()):
        told = read_object(root / DESCRIPTION, remedy=AGAIN) if (root / DESCRIPTION).is_file() else {}
        before = told.get("nbkit")
        require(
            isinstance(before, dict), f"{root.name}",
            expected="an empty folder, or one that nbkit made", found="other files",
            remedy="Choose another folder with --to; this one is not touched, not even with --overwrite.",
        )
        if before == dict(identity) and not overwrite:
            sweep(root, *root.glob("sub-*/**/"))  # of an export that was killed
            return False
        differs = [f"{k} {before.get(k)!r}, not {v!r}" for k, v in identity.items() if before.get(k) != v]
        require(
            overwrite, f"{root.name}", expected="a folder of the same export", found="; ".join(differs),
            remedy="Choose another folder with --to, or replace this one with --overwrite.",
        )
        shutil.rmtree(root)
    elif root.exists():
        require(root.is_dir(), f"{root.name}", expected="a folder", found="a file",
                remedy="Choose another name with --to.")
    return True


def description(cohort: Cohort, identity: Mapping[str, Any]) -> dict[str, Any]:
    """``dataset_description.json``: licence, credit and sources are those of the cohort."""
    told = cohort.provenance
    sources = [load_manifest(cohort.name)] if cohort.name in list_manifests() else []
    where = [{"URL": m.repository, **({"Version": m.commit} if m.commit else {})} for m in sources if m.repository]
    return {
        "Name": f"Scans of {cohort.name} as nbkit prepares and predicts them", "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative", "License": told.get("licence", ""),
        "Acknowledgements": told.get("attribution", ""),
        **({"ReferencesAndLinks": list(told["citation"])} if told.get("citation") else {}),
        "GeneratedBy": [{
            "Name": "nbkit", "Version": __version__, "Description": "nbkit export; no container",
        }],
        **({"SourceDatasets": where} if where else {}), "nbkit": dict(identity),
    }


def readme(cohort: Cohort, identity: Mapping[str, Any], left_out: int) -> str:
    """``README.md`` of the data set."""
    told, kind = cohort.provenance, cohort.provenance.get("kind", "simulated people" if cohort.truth else "real scans")
    private = ["These are restricted data with the participants' ids: keep them where only you may read.", ""]
    return "\n".join([
        f"# {cohort.name}, as nbkit prepares and predicts it", "",
        *(private if cohort.access == "restricted" else []),
        f"What it is: {kind}; profile {identity['Profile']}, seed {identity['Seed']}. "
        f"`desc-preproc` are scans, `desc-predicted...` are no scans: a system's forecast of an age, made from "
        "the scans named in the sidecar (`Sources`). The session of a forecast is that of the last scan shown.", "",
        "Volumes (mm3) stand in `sub-*/ses-*/*_scans.tsv`, a column per structure; `scans.json` describes them. "
        "Sidecars say system, settings, seed, hash of the weights, and whether the person was trained on.", "",
        f"Left out, with the reason: {left_out} ({LEFT_OUT}).", "",
        f"Licence: {told.get('licence', '')}. {told.get('attribution', '')}", "",
    ])


@app.command("export")
def command(
    cohort: Annotated[str, typer.Argument(help="embedded, open, a cohort's name, or the path of your own scans.")],
    to: Annotated[Path, typer.Option(help="Folder to write; a new one, or one that an export began.")],
    system: Annotated[str, typer.Option(help=f"all, none, or names with commas: {', '.join(SYSTEMS)}.")] = EVERY,
    people: Annotated[str, typer.Option(
        help="test: whom no system learned from; all; a number of test people; or ids with commas.")] = TEST,
    ahead: Annotated[str, typer.Option(help=f"Years after the last scan shown; {AHEAD} without --ages.")] = "",
    ages: Annotated[str, typer.Option(help="Ages in years; visits: those of the visits after the scans shown.")] = "",
    seen: Annotated[str, typer.Option(help="How many scans systems are shown, the first ones; all.")] = EVERY,
    profile: Annotated[str, typer.Option(help="smoke, laptop, overnight or paper.")] = "laptop",
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 7,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    n_jobs: Annotated[int, typer.Option(help="People prepared side by side.")] = 1,
    weights: Annotated[str, typer.Option(help=shipped.SAID)] = shipped.SHIPPED,
    overwrite: Annotated[bool, typer.Option(help="Replace an earlier export in the folder.")] = False,
    plan: Annotated[bool, typer.Option(help="Only say what would be trained and written.")] = False,
) -> None:
    """Write prepared scans, masks, volumes and every system's predictions of a cohort as BIDS derivatives."""
    wish = Wish.of(system=system, people=people, ahead=ahead or ("" if ages else AHEAD), ages=ages, seen=seen)
    known(profile, PROFILES, "--profile")
    shipped.use(weights)
    bench = Bench(cohort_for(cohort, task="ageing", profile=profile, seed=seed, n_jobs=n_jobs), profile, seed, device)
    export = Export(to.expanduser(), bench, wish)
    lacking, folder = bench.lacking(wish.systems), export.root
    typer.echo(f"{len(export.people)} people, {len(wish.systems)} systems, to {folder}")
    if lacking:
        typer.echo(f"to be trained first on {len(bench.train)} people ({profile}), then kept: {', '.join(lacking)}")
    if bench.people.access == "restricted":
        typer.echo("restricted data: the folder will hold the participants' ids; keep it to yourself")
    if plan:
        return
    export.begin(overwrite=overwrite)
    try:
        export.scans()
        for name in wish.systems:
            export.predictions(name)
    finally:
        export.end()
    typer.echo(f"{export.made} images written, {len(export.left_out)} left out ({LEFT_OUT} says why): {folder}")
