"""Run notebooks headlessly into a results folder: checked before, resumable, judged and reported after."""

from __future__ import annotations

import copy
import json
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nbkit.claims.observe import LOCK, load_observations
from nbkit.claims.verdicts import judge_folder
from nbkit.core import entered
from nbkit.core.checks import NbkitError, known, require
from nbkit.core.config import PROFILES, digest
from nbkit.core.device import pick_device
from nbkit.core.files import cache_folder, sole, write_json, write_text
from nbkit.core.project import FILES
from nbkit.runner import times
from nbkit.runner.children import Children, share
from nbkit.runner.ending import describe
from nbkit.runner.folder import Stamp, is_current, is_own, locked, read_stamps, records_of, write_stamp
from nbkit.runner.parameters import bind, check_names, declared, reads_results, source_of
from nbkit.runner.places import check_places, clear_leftovers, scratch_folder
from nbkit.runner.privacy import Scrubber, scrubber
from nbkit.runner.provenance import ROOT, code_digest, collect
from nbkit.runner.report import write_report
from nbkit.runner.stopping import stoppable

log = logging.getLogger(__name__)
NOTEBOOKS, LOGS = FILES / "notebooks", "logs"
_WEIGHTS = FILES / "data_manifests" / "weights.toml"
_CHILD = "import sys; from nbkit.runner.child import main; main(sys.argv[1])"
# glibc hands freed blocks back to the system and faults them in again: a sixth of a training step of a 3D U-Net, and in
# threads, which have heaps of their own, more
HEAP = {"MALLOC_TRIM_THRESHOLD_": str(2**32), "MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_ARENA_MAX": "1"}


@dataclass(frozen=True)
class RunResult:
    """What a run did: one stamp per notebook, and the exit code for a shell."""

    folder: Path
    stamps: tuple[Stamp, ...]
    signal: int = 0

    @property
    def exit_code(self) -> int:
        """0 when every notebook is done, 1 when one failed, 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP."""
        if self.signal:
            return 128 + self.signal
        return int(any(s.status not in ("done", "unchanged") for s in self.stamps))


def choose_notebooks(selection: str = "all", *, folder: Path = NOTEBOOKS) -> list[Path]:
    """Notebooks by their numbers or names: "all", "01", "00,01", "01_flair_synthesis".

    Raises
    ------
    NbkitError
        For one that does not exist, with the nearest name.
    """
    there = {p.stem: p for p in sorted(Path(folder).glob("[0-9]*.ipynb"))}
    by_word = {word: path for stem, path in there.items() for word in (stem.partition("_")[0], stem)}
    words = [w.strip().removesuffix(".ipynb") for w in selection.split(",") if w.strip()]
    require(
        bool(there and words), "notebooks: NB", expected="numbers of notebooks, or all",
        found=repr(selection) if there else f"no notebooks in {folder}",
        remedy="Give NB=all, or numbers such as NB=00,01.",
    )
    chosen = list(there.values()) if words == ["all"] else [by_word[known(w, by_word, "notebooks: NB")] for w in words]
    return sorted(set(chosen))


def reproduce(
    notebooks: Sequence[Path], *, out_dir: Path | str, profile: str = "laptop", cohort: str = "embedded", seed: int = 7,
    device: str = "auto", n_jobs: int | None = None, parameters: Mapping[str, Any] | None = None, data_state: str = "",
    model: str = "", at_once: int = 1,
) -> RunResult:
    """Run notebooks, each in its own process, and build the report.

    A notebook whose source, nbkit's source, parameters and data are those of its last complete run is not run
    again. One that fails does not stop the others. Everything is checked before the first one starts.

    Parameters
    ----------
    notebooks : sequence of path
    out_dir : path
        The results folder.
    profile, cohort, seed, device, n_jobs
        Given to each notebook that declares a parameter of that name.
    parameters : mapping, optional
        Further values; each is refused unless one of the notebooks declares it, with the type of its default.
    data_state : str
        Changes when the cohort's files do.
    model : str
        Addresses of users' models (:mod:`nbkit.core.entered`), for the notebooks that declare ``model``: one of them
        must. Their sources count among what a notebook depends on.
    at_once : int
        Notebooks that run side by side, each on its share of the cores (its threads, and `n_jobs` unless given). Those
        that read what the others recorded wait for them.

    Raises
    ------
    NbkitError
        For an unknown profile, device or parameter, fewer than one notebook at once, a value of the wrong type, an
        output folder that cannot be written to or that another run holds. Nothing has run then.
    """
    notebooks, out_dir = [Path(n).resolve() for n in notebooks], Path(out_dir).resolve()
    known(profile, PROFILES, "reproduce: profile")
    pick_device(device)
    require(at_once >= 1, "reproduce: at_once", expected="1 or more", found=at_once, remedy="Set AT_ONCE=1.")
    jobs = n_jobs or (None if at_once == 1 else share(at_once))
    standard = {
        "profile": profile, "cohort": _cohort(cohort), "seed": seed, "device": device, "headless": True,
    } | ({"n_jobs": jobs} if jobs else {})
    chosen = {**(parameters or {}), **({"model": model} if model else {})}
    check_names(notebooks, chosen)
    if "model" in chosen:
        chosen["model"] = entered.absolute(chosen["model"])
    plan = {n: bind(n, standard, chosen) for n in notebooks}
    own = is_own(cohort)
    check_places(out_dir)
    with stoppable() as finishing, locked(out_dir) as lock:
        children = Children(lock, at_once)
        if own:
            write_text(out_dir / ".gitignore", "*\n")
        clear_leftovers(out_dir)
        log.info("%s", times.foretold(out_dir.name, [notebook.stem for notebook in plan], at_once=at_once))
        stamps, number = _run_all(plan, out_dir, data_state, children, timed=at_once == 1 and not chosen)
        finishing()
        clear_leftovers(out_dir)
        finish(out_dir, profile=profile, cohort="own data" if own else Path(cohort).name, seed=seed)
    return RunResult(out_dir, tuple(stamps), number)


def _cohort(name: str) -> str:
    """A path is made absolute: the notebooks run from their own folder."""
    require(
        bool(name), "reproduce: cohort", expected="embedded, open or a path", found="nothing",
        remedy="Use COHORT=embedded.",
    )
    return str(Path(name).resolve()) if Path(name).exists() else name


def _run_all(
    plan: Mapping[Path, dict[str, Any]], out_dir: Path, data_state: str, children: Children, *, timed: bool,
) -> tuple[list[Stamp], int]:
    """A stamp for each notebook, and the signal that ended the run before its time, else 0.

    What notebooks took is remembered where the run is `timed`: beside others, or with users' models, they take longer.
    """
    before, stamps = read_stamps(out_dir), {}
    running: dict[Future, tuple[Path, str]] = {}

    def let(count: int) -> None:
        """Wait until so many run at most."""
        while len(running) > count:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                notebook, name = running.pop(future)
                stamp = stamps[notebook] = future.result()
                log.info("%s: %s in %.0f s", name, stamp.status, stamp.seconds)
                if stamp.status == "done" and timed:
                    times.note(out_dir.name, notebook.stem, stamp.seconds)

    with ThreadPoolExecutor(children.at_once) as pool:
        try:
            for i, (notebook, values) in enumerate(plan.items(), 1):
                let(0 if reads_results(notebook) else children.at_once - 1)
                name, scrub = f"[{i}/{len(plan)}] {notebook.stem}", scrubber(notebook, out_dir, values)
                fresh = _fresh(notebook, values, out_dir, data_state, scrub)
                if is_current(out_dir, before.get(notebook.stem), fresh.key):
                    log.info("%s: nothing has changed since its last run, kept", name)
                    stamps[notebook] = replace(before[notebook.stem], status="unchanged")
                    continue
                log.info("%s: running", name)
                write_stamp(out_dir, fresh)
                running[pool.submit(_run_one, notebook, values, out_dir, fresh, children, scrub)] = notebook, name
            let(0)
        except BaseException as ended:
            children.end()
            if not isinstance(ended, KeyboardInterrupt):
                raise
            asked = ended
        else:
            return [stamps[notebook] for notebook in plan], 0
    left = [notebook for notebook in plan if notebook not in stamps]
    log.warning("%s: stopped; the same command goes on from here", left[0].stem if left else "all done")
    stopped = {notebook: Stamp(notebook.stem, "", "stopped") for notebook in left}
    for notebook in stopped.keys() - {notebook for notebook, _ in running.values()}:
        write_stamp(out_dir, before.get(notebook.stem, stopped[notebook]))
    return [(stamps | stopped)[notebook] for notebook in plan], getattr(asked, "number", signal.SIGINT)


def _fresh(
    notebook: Path, values: Mapping[str, Any], out_dir: Path, data_state: str, scrub: Scrubber
) -> Stamp:
    """The stamp of a notebook that is about to run; its key is the digest of all it depends on."""
    code = code_digest()
    parts = [source_of(notebook), code, _influential(notebook, values), data_state]
    key = digest([*parts, _others(notebook, out_dir)] if reads_results(notebook) else parts)
    return Stamp(notebook.stem, key, "stopped", code, parameters=scrub.json(_shown(values)))


def _influential(notebook: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that can change a result: not those marked inert, not where the results go; weights by their list."""
    known_here = declared(notebook)
    inert = {p.name for p in known_here.values() if p.inert} | {"out_dir", "headless"}
    told = {k: v for k, v in values.items() if k not in inert}
    if "weights" in known_here and told.get("weights", known_here["weights"].default) == "shipped":
        told["weights"] = digest(_WEIGHTS.read_text(encoding="utf-8") if _WEIGHTS.exists() else "none")
    classes = [(a.rpartition(":")[2], entered.source_digest(a)) for a in entered.addresses(told.get("model", ""))]
    return {**told, "model": classes} if classes else told


def _others(notebook: Path, out_dir: Path) -> list[dict[str, Any]]:
    return [vars(o) for o in load_observations(out_dir).values() if o.notebook != notebook.stem]


def _shown(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: Path(v).name if isinstance(v, str) and Path(v).is_absolute() else v for k, v in values.items()}


def _run_one(
    notebook: Path, values: Mapping[str, Any], out_dir: Path, stamp: Stamp, children: Children, scrub: Scrubber
) -> Stamp:
    begun = time.monotonic()
    try:
        with scratch_folder() as scratch:
            outcome = _in_child(notebook, values, out_dir, scratch, children)
            done = outcome["status"] == "done"
            kept, other = f"{notebook.stem}.ipynb", f"{notebook.stem}.failed.ipynb"
            kept, other = (kept, other) if done else (other, kept)
            node = _executed(scratch / "out.ipynb")
            if node:
                write_json(out_dir / kept, scrub.notebook(copy.deepcopy(node)))
            (out_dir / other).unlink(missing_ok=True)
    finally:
        with sole(out_dir / LOCK):  # other notebooks record into the same files
            scrub.folder(out_dir)
    if not done:
        _tell(outcome, node, f"{out_dir.name}.{notebook.stem}")
    stamp = replace(
        stamp, status=outcome["status"], error=scrub.error(outcome.get("where", ""), outcome["error"]),
        seconds=round(time.monotonic() - begun, 1),
        peak_bytes=outcome.get("peak_bytes", 0), records=records_of(out_dir, notebook.stem) if done else [],
    )
    write_stamp(out_dir, stamp)
    return stamp


def _executed(file: Path) -> dict[str, Any] | None:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # the kernel or the room for it ended too early
        return None


def _tell(outcome: Mapping[str, Any], node: Mapping[str, Any] | None, name: str) -> None:
    """Everything about a failure, to the terminal and to a log of the user's own."""
    place = cache_folder() / LOGS / f"{name}.log"
    message = ": ".join(filter(None, [outcome.get("where", ""), outcome["error"]]))
    outputs = [o for c in (node or {"cells": []})["cells"] for o in c.get("outputs", [])]
    lines = ["".join(o.get("text", [])) if o["output_type"] == "stream" else "\n".join(o.get("traceback", []))
             for o in outputs if o["output_type"] in ("stream", "error")]
    log.error("%s", message)
    try:
        write_text(place, re.sub(r"\x1b\[[\d;]*m", "", "\n".join([message, *lines, ""])))
    except NbkitError as error:
        log.warning("no log was written: %s", error)
    else:
        log.error("more in %s", place)


def _in_child(
    notebook: Path, values: Mapping[str, Any], out_dir: Path, scratch: Path, children: Children,
) -> dict[str, Any]:
    if "out_dir" in declared(notebook):
        values = {**values, "out_dir": os.path.relpath(out_dir, notebook.parent)}
    read, write = os.pipe()  # a file would need room
    job = {
        "notebook": str(notebook), "name": notebook.stem, "output": str(scratch / "out.ipynb"),
        "parameters": dict(values), "cwd": str(notebook.parent),
        "progress": sys.stderr.isatty() and children.at_once == 1,
        "result": write, "parent": os.getpid(),
    }
    write_json(scratch / "job.json", job)
    command = [sys.executable, "-c", _CHILD, str(scratch / "job.json")]
    with open(read, encoding="utf-8") as pipe:
        code = children.run(command, env=_environment(scratch), tells=write)
        told = pipe.read()
    return json.loads(told) if told else {"status": "failed", "error": describe(code)}


def _environment(scratch: Path) -> dict[str, str]:
    """No kernelspec, configuration or history of the user's; the nbkit that runs is the one the kernel imports."""
    places = {f"JUPYTER_{n}_DIR": "jupyter" for n in ("DATA", "CONFIG", "RUNTIME")} | {"IPYTHONDIR": "ipython"}
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **HEAP, **os.environ, **{name: str(scratch / folder) for name, folder in places.items()}, "JUPYTER_PATH": "",
        "TMPDIR": str(scratch),
        "JUPYTER_PLATFORM_DIRS": "1", "PYTHONPATH": os.pathsep.join(path), "PYTHONHASHSEED": "0",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }


def finish(out_dir: Path, *, profile: str, cohort: str, seed: int) -> None:
    """Judge what a folder holds and write ``scorecard.json``, ``provenance.json`` and ``index.html``."""
    card = judge_folder(out_dir)
    record = {
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "run": {"profile": profile, "cohort": cohort, "seed": seed},
        "notebooks": [vars(s) for s in read_stamps(out_dir).values()],
        "system": collect(),
    }
    write_json(out_dir / "provenance.json", record)
    write_report(out_dir, card, record)
