"""Run notebooks headlessly into a results folder: checked before, resumable, judged and reported after."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nbkit.claims.observe import load_observations
from nbkit.claims.verdicts import judge_folder
from nbkit.core.checks import known, require
from nbkit.core.config import PROFILES, digest
from nbkit.core.device import pick_device
from nbkit.core.files import write_json, write_text
from nbkit.runner.ending import describe
from nbkit.runner.folder import Stamp, is_current, is_own, locked, read_stamps, records_of, write_stamp
from nbkit.runner.parameters import bind, check_names, declared, reads_results, source_of
from nbkit.runner.provenance import ROOT, code_digest, collect
from nbkit.runner.report import write_report

log = logging.getLogger(__name__)
NOTEBOOKS = ROOT / "notebooks"
_CHILD = "import sys; from nbkit.runner.child import main; main(sys.argv[1])"
# glibc hands freed blocks back to the system and faults them in again: a sixth of a training step of a 3D U-Net, and in
# threads, which have heaps of their own, more
HEAP = {"MALLOC_TRIM_THRESHOLD_": str(2**32), "MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_ARENA_MAX": "1"}


@dataclass(frozen=True)
class RunResult:
    """What a run did: one stamp per notebook, and the exit code for a shell."""

    folder: Path
    stamps: tuple[Stamp, ...]
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        """0 when every notebook is done, 1 when one failed, 130 after Ctrl-C."""
        if self.interrupted:
            return 130
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
        remedy="Give NB=all, or numbers such as NB=00,01, from inside a clone of the repository.",
    )
    chosen = list(there.values()) if words == ["all"] else [by_word[known(w, by_word, "notebooks: NB")] for w in words]
    return sorted(set(chosen))


def reproduce(
    notebooks: Sequence[Path], *, out_dir: Path | str, profile: str = "laptop", cohort: str = "embedded", seed: int = 7,
    device: str = "auto", n_jobs: int | None = None, parameters: Mapping[str, Any] | None = None, data_state: str = "",
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

    Raises
    ------
    NbkitError
        For an unknown profile, device or parameter, a value of the wrong type, an output folder that cannot
        be written to or that another run holds. Nothing has run then.
    """
    notebooks, out_dir = [Path(n).resolve() for n in notebooks], Path(out_dir).resolve()
    known(profile, PROFILES, "reproduce: profile")
    pick_device(device)
    standard = {
        "profile": profile, "cohort": _cohort(cohort), "seed": seed, "device": device, "headless": True,
    } | ({"n_jobs": n_jobs} if n_jobs else {})
    check_names(notebooks, parameters or {})
    plan = {n: bind(n, standard, parameters or {}) for n in notebooks}
    with locked(out_dir) as lock:
        if is_own(cohort):
            write_text(out_dir / ".gitignore", "*\n")
        stamps, interrupted = _run_all(plan, out_dir, data_state, lock)
        finish(out_dir, profile=profile, cohort=Path(cohort).name, seed=seed)
    return RunResult(out_dir, tuple(stamps), interrupted)


def _cohort(name: str) -> str:
    """A path is made absolute: the notebooks run from their own folder."""
    require(
        bool(name), "reproduce: cohort", expected="embedded, open or a path", found="nothing",
        remedy="Use COHORT=embedded.",
    )
    return str(Path(name).resolve()) if Path(name).exists() else name


def _run_all(
    plan: Mapping[Path, dict[str, Any]], out_dir: Path, data_state: str, lock: int,
) -> tuple[list[Stamp], bool]:
    stamps: list[Stamp] = []
    before = read_stamps(out_dir)
    for i, (notebook, values) in enumerate(plan.items(), 1):
        code = code_digest()
        parts = [source_of(notebook), code, _influential(notebook, values), data_state]
        key = digest([*parts, _others(notebook, out_dir)] if reads_results(notebook) else parts)
        name = f"[{i}/{len(plan)}] {notebook.stem}"
        if is_current(out_dir, before.get(notebook.stem), key):
            log.info("%s: nothing has changed since its last run, kept", name)
            stamps.append(replace(before[notebook.stem], status="unchanged"))
            continue
        log.info("%s: running", name)
        fresh = Stamp(notebook.stem, key, "stopped", code, parameters=_shown(values))
        write_stamp(out_dir, fresh)
        try:
            stamps.append(_run_one(notebook, values, out_dir, fresh, lock))
        except KeyboardInterrupt:
            log.warning("%s: stopped; the same command goes on from here", name)
            rest = [Stamp(n.stem, "", "stopped") for n in list(plan)[i:]]
            for stamp in rest:
                write_stamp(out_dir, before.get(stamp.notebook, stamp))
            return [*stamps, fresh, *rest], True
        log.info("%s: %s in %.0f s %s", name, stamps[-1].status, stamps[-1].seconds, stamps[-1].error)
    return stamps, False


def _influential(notebook: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that can change a result: not those marked inert, not where the results go."""
    inert = {p.name for p in declared(notebook).values() if p.inert} | {"out_dir", "headless"}
    return {k: v for k, v in values.items() if k not in inert}


def _others(notebook: Path, out_dir: Path) -> list[dict[str, Any]]:
    return [vars(o) for o in load_observations(out_dir).values() if o.notebook != notebook.stem]


def _shown(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: Path(v).name if isinstance(v, str) and Path(v).is_absolute() else v for k, v in values.items()}


def _run_one(notebook: Path, values: Mapping[str, Any], out_dir: Path, stamp: Stamp, lock: int) -> Stamp:
    places = _places(notebook, out_dir, values)
    with tempfile.TemporaryDirectory(prefix="nbkit-") as scratch:
        begun = time.monotonic()
        outcome = _in_child(notebook, values, out_dir, Path(scratch), lock)
        executed = Path(scratch) / "out.ipynb"
        done = outcome["status"] == "done"
        kept, other = f"{notebook.stem}.ipynb", f"{notebook.stem}.failed.ipynb"
        kept, other = (kept, other) if done else (other, kept)
        if executed.exists():
            node = json.loads(executed.read_text(encoding="utf-8"))
            node["metadata"]["papermill"] = {k: v for k, v in node["metadata"]["papermill"].items() if "path" not in k}
            write_json(out_dir / kept, _without(node, places))
        (out_dir / other).unlink(missing_ok=True)
    stamp = replace(
        stamp, status=outcome["status"], error=_without(outcome["error"], places),
        seconds=round(time.monotonic() - begun, 1),
        peak_bytes=outcome.get("peak_bytes", 0), records=records_of(out_dir, notebook.stem) if done else [],
    )
    write_stamp(out_dir, stamp)
    return stamp


def _in_child(
    notebook: Path, values: Mapping[str, Any], out_dir: Path, scratch: Path, lock: int,
) -> dict[str, Any]:
    if "out_dir" in declared(notebook):
        values = {**values, "out_dir": os.path.relpath(out_dir, notebook.parent)}
    job = {
        "notebook": str(notebook), "name": notebook.stem, "output": str(scratch / "out.ipynb"),
        "parameters": dict(values), "cwd": str(notebook.parent), "progress": sys.stderr.isatty(),
        "result": str(scratch / "result.json"), "parent": os.getpid(),
    }
    write_json(scratch / "job.json", job)
    command = [sys.executable, "-c", _CHILD, str(scratch / "job.json")]
    child = subprocess.Popen(command, env=_environment(scratch), pass_fds=(lock,))
    try:
        code = child.wait()
    except BaseException:
        child.terminate()
        child.wait()
        raise
    result = scratch / "result.json"
    if result.exists():
        return json.loads(result.read_text(encoding="utf-8"))
    return {"status": "failed", "error": describe(code)}


def _environment(scratch: Path) -> dict[str, str]:
    """No kernelspec, configuration or history of the user's; the nbkit that runs is the one the kernel imports."""
    places = {f"JUPYTER_{n}_DIR": "jupyter" for n in ("DATA", "CONFIG", "RUNTIME")} | {"IPYTHONDIR": "ipython"}
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **HEAP, **os.environ, **{name: str(scratch / folder) for name, folder in places.items()}, "JUPYTER_PATH": "",
        "JUPYTER_PLATFORM_DIRS": "1", "PYTHONPATH": os.pathsep.join(path), "PYTHONHASHSEED": "0",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }


def _places(notebook: Path, out_dir: Path, values: Mapping[str, Any]) -> dict[str, str]:
    """Absolute paths of this machine, the innermost first, with what stands for them in a results folder."""
    given = sorted((v for v in values.values() if isinstance(v, str) and Path(v).is_absolute()), key=len, reverse=True)
    own = {path: Path(path).name for path in given if path != str(out_dir)}
    return own | {
        str(out_dir): out_dir.name, str(notebook.parent): ".", str(ROOT): "..", sys.prefix: "<env>",
        str(Path.home()) + os.sep: "~" + os.sep,
    }


def _without(value: Any, places: Mapping[str, str]) -> Any:
    """`value` (JSON) with the absolute paths in its texts replaced; pictures are left alone."""
    if isinstance(value, dict):
        return {k: v if k.startswith("image/") else _without(v, places) for k, v in value.items()}
    if isinstance(value, list):
        return [_without(v, places) for v in value]
    if isinstance(value, str):
        for place, word in places.items():
            value = value.replace(place, word) if len(place) > 2 else value
    return value


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
