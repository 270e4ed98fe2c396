"""The command line: nbkit doctor | data | run | export | benchmark | export-explorer | report | site | scorecard |
verify | reference | train | cache.

Exit codes: 0 fine, 1 failed, 2 wrong input.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from nbkit import __version__
from nbkit.benchmark.commands import app as benchmark_app
from nbkit.caching import app as cache_app
from nbkit.claims.reference import compare_with_reference, write_reference
from nbkit.claims.tables import verdict_table
from nbkit.claims.verdicts import load_scorecard
from nbkit.cohorts import SCANNED_TWICE, cohort_name, cohort_names, list_cohorts, mslesseg, to_fetch
from nbkit.core.checks import NbkitError, known, require
from nbkit.core.cluster import VARIABLE, on_cluster
from nbkit.core.config import PROFILES, digest
from nbkit.core.files import write_json, write_text
from nbkit.core.project import FILES
from nbkit.core.protocols import SEXES
from nbkit.data.brain import kept_brain
from nbkit.data.check import look_at_images, read_own, verdicts
from nbkit.data.manifest import Manifest, list_manifests, load_manifest
from nbkit.data.own_needs import account, in_words
from nbkit.data.own_state import folder_state, table_state
from nbkit.doctor import lines
from nbkit.entrants import require_methods
from nbkit.export import app as export_app
from nbkit.runner.execute import choose_notebooks, reproduce
from nbkit.runner.folder import is_own, read_stamps, results_folder
from nbkit.runner.parameters import from_text
from nbkit.runner.qc import QcPage, qc_folder
from nbkit.runner.report import write_again
from nbkit.runner.times import SECONDS, longest
from nbkit.site.build import build_site
from nbkit.site.front import FRONT_OF, front_pictures
from nbkit.train import chosen, trained

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__,
)
data_app = typer.Typer(no_args_is_help=True, help="Cohorts: what there is, download, verify, check your own.")
app.add_typer(data_app, name="data")
app.add_typer(cache_app, name="cache")
app.add_typer(export_app)
app.add_typer(benchmark_app, name="benchmark")

Profile = Annotated[str, typer.Option(help="smoke, laptop, overnight or paper.")]
CohortOption = Annotated[str, typer.Option(help="embedded, open, dlbs, or the path of your own table.")]
Out = Annotated[Path, typer.Option(help="Where results folders are made.")]
Seed = Annotated[int, typer.Option(help="Seed of every draw.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Jobs = Annotated[int | None, typer.Option(help="Jobs side by side on the CPU.")]
Parameters = Annotated[list[str] | None, typer.Option("-p", help="name=value, where a notebook has it.")]
Model = Annotated[str, typer.Option(help="A model of your own: my_model.py:MyModel; several with commas.")]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"nbkit {__version__}")
        raise typer.Exit


@app.callback()
def everything(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Which it is.")] = False,
    scheduler: Annotated[str, typer.Option(
        envvar=VARIABLE, help="A dask scheduler, tcp://host:8786, whose workers simulate, prepare and predict people.",
    )] = "",
) -> None:
    """Set before any command."""
    context.with_resource(on_cluster(scheduler))


@app.command()
def run(
    nb: Annotated[str, typer.Option(help="Numbers of notebooks (00,01), or all.")] = "all",
    profile: Profile = "laptop",
    cohort: CohortOption = "embedded",
    seed: Seed = 7,
    device: Device = "auto",
    n_jobs: Jobs = None,
    out: Out = Path("results"),
    parameter: Parameters = None,
    model: Model = "",
    at_once: Annotated[int, typer.Option(help="Notebooks side by side, each on its share of the cores.")] = 1,
) -> None:
    """Run notebooks, judge the claims, write the report."""
    folder, exit_code = _reproduced(nb, profile, cohort, seed, device, n_jobs, out, parameter, model, at_once)
    counts = ", ".join(f"{n} {verdict}" for verdict, n in load_scorecard(folder).counts().items())
    typer.echo(f"{counts}\nopen {folder / 'index.html'}")
    raise typer.Exit(exit_code)


@app.command("export-explorer")
def export_explorer(
    profile: Profile = "laptop", cohort: CohortOption = "embedded", seed: Seed = 7, device: Device = "auto",
    n_jobs: Jobs = None, out: Out = Path("results"), parameter: Parameters = None, model: Model = "",
) -> None:
    """Write explorer.html, the explorer that needs no kernel, by notebook 09 (own_scan=... and own_age=... with -p)."""
    notebook, = choose_notebooks("09")
    page = results_folder(out, known(profile, PROFILES, "PROFILE"), cohort) / "explorer.html"
    if not page.exists():
        (page.parent / ".stamps" / f"{notebook.stem}.json").unlink(missing_ok=True)
    _, exit_code = _reproduced("09", profile, cohort, seed, device, n_jobs, out, parameter, model)
    typer.echo(f"open {page}" if page.exists() else "no explorer was written", err=not page.exists())
    raise typer.Exit(exit_code)


def _reproduced(
    nb: str, profile: str, cohort: str, seed: int, device: str, n_jobs: int | None, out: Path,
    parameter: list[str] | None, model: str, at_once: int = 1,
) -> tuple[Path, int]:
    """The results folder of a run, and its exit code; failures are told."""
    notebooks = choose_notebooks(nb)
    known(profile, PROFILES, "PROFILE")
    require_methods(model)
    folder = results_folder(out, profile, cohort)
    state = data_state(cohort)
    if is_own(cohort):
        typer.echo("\n".join([*account(Path(cohort)), ""]), nl=False)
    result = reproduce(
        notebooks, out_dir=folder, profile=profile, cohort=cohort, seed=seed, device=device, n_jobs=n_jobs,
        parameters=from_text(notebooks, parameter or ()), data_state=state, model=model, at_once=at_once,
    )
    for stamp in result.stamps:
        if stamp.error:
            typer.echo(f"{stamp.notebook} failed: {stamp.error}", err=True)
    return folder, result.exit_code


def data_state(cohort: str) -> str:
    """Changes when files of the cohort appear, vanish or change: a finished notebook is then run again.

    Beside real scans notebook 08 reads those of people scanned twice.
    """
    name = cohort_name(cohort)
    if mslesseg.is_archive(name):
        return digest(mslesseg.state(name))
    twice = [] if cohort == "embedded" else _files_state([load_manifest(n) for n in SCANNED_TWICE])
    if name.lower().endswith(".csv"):
        return digest([*table_state(Path(name)), twice])
    if Path(name).is_dir():
        return digest([*folder_state(Path(name)), twice])
    return digest([_files_state(_manifests(cohort)), twice])


def _files_state(manifests: list[Manifest]) -> list[object]:
    places = [(f.digest, manifest.find(f.path)) for manifest in manifests for f in manifest.files]
    return [(known_as, path.stat().st_size if path else None) for known_as, path in places]


def _manifests(cohort: str) -> list[Manifest]:
    """Of all cohorts that COHORT means, or of the one of that name; own scans have none."""
    names = [cohort] if cohort in list_manifests() else cohort_names(cohort)
    return [load_manifest(name) for name in names if name in list_manifests()]


@app.command()
def notebooks(
    to: Annotated[Path, typer.Option(help="Folder to copy them to; made if it is not there.")],
) -> None:
    """Copy the notebooks, to open them in JupyterLab; nothing is written over."""
    there = [to / source.name for source in choose_notebooks() if (to / source.name).exists()]
    require(
        not there, f"notebooks: {to}", expected="a folder without notebooks of these names",
        found=", ".join(path.name for path in there), remedy="Choose another folder, or rename yours.",
    )
    for source in choose_notebooks():
        write_text(to / source.name, source.read_text(encoding="utf-8"))
    typer.echo(f"{len(choose_notebooks())} notebooks in {to}; open them with: jupyter lab {to}")


@app.command()
def scorecard(
    profile: Profile = "laptop", cohort: CohortOption = "embedded", out: Out = Path("results"),
    as_json: Annotated[bool, typer.Option("--json", help="The whole scorecard as JSON.")] = False,
) -> None:
    """Print the verdicts of a finished run."""
    folder = results_folder(out, known(profile, PROFILES, "PROFILE"), cohort)
    card = load_scorecard(folder)
    require(
        bool(card.papers), f"scorecard: {folder}", expected="a finished run", found="no scorecard",
        remedy="Run `make reproduce` with this PROFILE and COHORT first.",
    )
    if as_json:
        typer.echo(json.dumps(card.as_dict(), indent=1, ensure_ascii=False, default=vars))
        return
    typer.echo("\n".join(_aligned(verdict_table(card).to_dict("split")["data"])))
    typer.echo(", ".join(f"{n} {verdict}" for verdict, n in card.counts().items()))


def _aligned(rows: list[list[str]]) -> list[str]:
    return [f"{verdict[:14]:<14}  {where:<12}  {claim}" for where, claim, verdict, *_ in rows]


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="A results folder: results/laptop-embedded.")]) -> None:
    """Judge a finished run and write its index.html again, without running anything."""
    typer.echo(f"open {write_again(folder)}")


@app.command()
def site(
    folder: Annotated[Path, typer.Argument(help="A results folder: results/laptop-embedded.")],
    to: Annotated[Path, typer.Option(help="Folder of the site, replaced whole.")] = Path("site"),
    reference: Annotated[Path, typer.Option(help="Folder of committed references.")] = FILES / "reference",
) -> None:
    """Build the site: executed notebooks, a page a paper, pictures, report, explorer, API. Needs the clone."""
    typer.echo(f"open {build_site(folder, to, reference=Path(reference))}")


@app.command()
def verify(
    profile: Profile = "laptop", cohort: CohortOption = "embedded", out: Out = Path("results"),
    reference: Annotated[Path, typer.Option(help="Folder of committed references.")] = FILES / "reference",
) -> None:
    """Compare a finished run with the committed reference; fails when anything is worse."""
    folder = results_folder(out, known(profile, PROFILES, "PROFILE"), cohort)
    worse = compare_with_reference(folder, Path(reference) / folder.name)
    for r in worse:
        typer.echo(f"{r.id}: {r.reference} -> {r.now} ({r.why})")
    typer.echo(f"{len(worse)} worse than the reference" if worse else "nothing is worse than the reference")
    raise typer.Exit(int(bool(worse)))


@app.command()
def reference(
    profile: Profile = "laptop", cohort: CohortOption = "embedded", out: Out = Path("results"),
    to: Annotated[Path, typer.Option(help="Folder of committed references.")] = FILES / "reference",
) -> None:
    """Keep a finished run as the committed reference that `verify` compares with."""
    folder = results_folder(out, known(profile, PROFILES, "PROFILE"), cohort)
    took = {s.notebook: s.seconds for s in read_stamps(folder).values() if s.status == "done"}
    seconds = longest(folder.name, took, reference=Path(to) / folder.name)
    written = write_reference(folder, Path(to) / folder.name)
    write_json(written / SECONDS, seconds)
    if folder.name == FRONT_OF and Path(to) == FILES / "reference":
        front_pictures(written, FILES / "docs" / "pictures")
    typer.echo(f"written: {written.name}; commit it with the machine named")


@data_app.command("list")
def data_list() -> None:
    """What cohorts there are, and how much of each is here."""
    for c in list_cohorts():
        here = "never downloaded: apply for it" if c.access == "restricted" else c.present
        typer.echo(f"{c.name:<14} {c.level:<10} {c.subjects:>4} subjects  {here:<32} {c.licence:<12} {c.title}")


@data_app.command("fetch")
def data_fetch(
    cohort: Annotated[str, typer.Argument(help="open (all of them), or the name of a cohort.")],
    people: Annotated[int | None, typer.Option(help="Only the first so many people.")] = None,
    everybody: Annotated[bool, typer.Option("--all", help="Also who is not in the default set.")] = False,
) -> None:
    """Download what is missing and verify everything."""
    manifests = _manifests(cohort)
    if not manifests:
        typer.echo(f"{Path(cohort).name}: nothing to download")
    for manifest in manifests:
        if not (manifest.files or manifest.access == "restricted"):
            typer.echo(f"{manifest.name}: nothing to download")
            continue
        try:
            paths = to_fetch(manifest, people=people, everybody=everybody)
            typer.echo(_cost(manifest, paths))
            found = manifest.fetch(paths)
        except NbkitError as error:
            typer.echo(f"nbkit: {error}", err=True)
            raise typer.Exit(1) from error
        typer.echo(f"{manifest.name}: {len(found)} files here and verified{_unverified(manifest, paths)}. "
                   f"{manifest.attribution}")


def _cost(manifest: Manifest, paths: list[str]) -> str:
    """How much is still to come."""
    missing = [manifest.by_path[path] for path in paths if manifest.find(path) is None]
    size = sum(file.bytes or 0 for file in missing) / 1e6
    return f"{manifest.name}: {len(paths)} files, {len(missing)} to download ({size:.0f} MB)"


def _unverified(manifest: Manifest, paths: list[str]) -> str:
    named = [path for path in paths if manifest.by_path[path].unverified]
    return f", but for {', '.join(named)}: no hash of it is published" if named else ""


@data_app.command("verify")
def data_verify(cohort: Annotated[str, typer.Argument(help="open, or the name of a cohort.")] = "open") -> None:
    """Check every file against its published hash; missing files are counted, wrong ones fail."""
    rows = [row for manifest in _manifests(cohort) for row in manifest.verify()]
    wrong = [r for r in rows if r.state.startswith("wrong")]
    for r in wrong:
        typer.echo(f"{r.path}: {r.state} ({r.detail})")
    counts = {state: sum(r.state == state for r in rows) for state in ("ok", "missing", "unverified")}
    unknown = f", {counts['unverified']} without a published hash, as at first" if counts["unverified"] else ""
    typer.echo(f"{counts['ok']} ok, {counts['missing']} missing, {len(wrong)} wrong{unknown}")
    raise typer.Exit(int(bool(wrong)))


@data_app.command("check")
def data_check(
    path: Annotated[Path, typer.Argument(help="A BIDS folder, as Clinica writes it or plain, or a CSV.")],
    clinical: Annotated[Path | None, typer.Option(help="Folder with the original OASIS-3 tables.")] = None,
    sex_codes: Annotated[str, typer.Option(help="What coded sexes mean: 1=M,2=F.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder of the page; results/qc-NAME by default.")] = None,
) -> None:
    """Look at every table and scan of your own data: a verdict per subject, a page with a picture per scan."""
    reading = read_own(path, sex_codes=_codes(sex_codes), clinical=clinical)
    page, found = QcPage(reading.name), []
    for look in look_at_images(reading, find=kept_brain):
        page.add(look)
        found += look.findings
    judged = verdicts(reading, found)
    whole = [f for f in reading.findings if not f.subject]
    for f in whole:
        typer.echo(f"{'refused' if f.refused else 'warning':<8} the data set: {f}")
    for v in judged:
        typer.echo(f"{v.state:<8} {v.subject}: {v.scans} scans")
        for f in v.findings:
            typer.echo(f"  {'refused' if f.refused else 'warning'}: {f}")
    typer.echo("\n".join(in_words(reading, path, found)))
    place = page.write(out or qc_folder("results", reading.name), judged, whole)
    for option in (name for name, given in (("--sex-codes", sex_codes), ("--clinical", clinical)) if given):
        typer.echo(f"a run does not know {option}: README, 'Your own data', says where it reads the same")
    passed = sum(v.passed for v in judged)
    typer.echo(f"{passed} of {len(judged)} subjects pass\nopen {place}")
    raise typer.Exit(int(any(v.refused for v in judged)))


def _codes(text: str) -> dict[str, str]:
    pairs = [p.partition("=") for p in text.split(",") if p.strip()]
    for code, _, sex in pairs:
        known(sex.strip(), SEXES, f"--sex-codes {code}")
    return {code.strip(): sex.strip() for code, _, sex in pairs}


@app.command("train")
def train_weights(
    name: Annotated[str | None, typer.Argument(help="Which of the weights that come with the project.")] = None,
    nb: Annotated[str, typer.Option(help="Or those that these notebooks read, e.g. 05,08.")] = "all",
    profile: Profile = "laptop",
    cohort: Annotated[str, typer.Option(help="Whom they learn from: embedded, or open (ageing).")] = "embedded",
    collect: Annotated[bool, typer.Option(help="Keep what a training has reached by now; train nothing.")] = False,
    n_jobs: Annotated[int, typer.Option(help="People prepared side by side.")] = 1,
) -> None:
    """Train weights that come with the project again, or go on after a kill; keep them and list them.

    On several GPUs: torchrun --standalone --nproc-per-node 4 -m nbkit.cli train NAME.
    """
    known(profile, PROFILES, "PROFILE")
    for table in trained(chosen(name, nb), profile=profile, level=cohort, collect=collect, n_jobs=n_jobs):
        typer.echo(table.round(4).to_string(index=False))


@app.command()
def doctor() -> None:
    """What is installed, what is missing, and how to fix it."""
    found = lines()
    for state, what, told, fix in found:
        typer.echo(f"{state:<8} {what:<16} {told}{'  -> ' + fix if fix else ''}")
    raise typer.Exit(int(any(state == "missing" for state, *_ in found)))


def main() -> None:
    """Entry point: refusals are one clear message and exit code 2."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("nbkit").setLevel(logging.INFO)
    try:
        app()
    except NbkitError as error:
        typer.echo(f"nbkit: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
