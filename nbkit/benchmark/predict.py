"""``nbkit benchmark predict``: a Python model learns from a task's people and hands in files, as any tool would."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from nbkit.benchmark.ageing import FORECAST, START, Ageing
from nbkit.benchmark.entries import ENTRANT
from nbkit.core.files import write_json
from nbkit.data.derivatives import DESCRIPTION, Derived, predicted_desc
from nbkit.entrants import EnteredModel
from nbkit.entrants.strangers import Wrong
from nbkit.export import claim, description


def predict(root: Path, task: Ageing, model: EnteredModel, *, overwrite: bool = False) -> list[str]:
    """Write what a model forecasts of everybody who is asked for, and a picture of the last scan's own age.

    Parameters
    ----------
    root : path
        A new folder, or one of the same model and task, which is written again.
    task : Ageing
    model : EnteredModel
        Fitted on the task's training people.
    overwrite : bool
        Replace a folder of another model or task.

    Returns
    -------
    list of str
        For whom it had no usable answer, and why: nothing is written of them.

    Raises
    ------
    NbkitError
        For a folder that holds other things.
    """
    identity = {**task.identity, "Model": model.config.as_dict()}
    claim(root, identity, overwrite=overwrite)
    write_json(root / DESCRIPTION, description(task.people, identity))
    asked = [*task.asked(START), *task.asked(FORECAST)]
    left_out, seconds = [], []
    for label, person in task.by_label.items():
        ages = [age for name, age in asked if name == label]
        shutil.rmtree(root / f"sub-{label}", ignore_errors=True)  # of an earlier answer
        start = time.perf_counter()
        try:
            images = model.attempt(person.scans[: task.seen], ages, person.diagnosis)
        except Wrong as wrong:
            left_out.append(f"sub-{label}: {wrong.what}. {wrong.remedy}")
            continue
        seconds.append((time.perf_counter() - start) / len(ages))
        session = task.session(person, task.last(person))
        for age, image in zip(ages, images, strict=True):
            facts = {"System": model.config.name, "PredictedAge": age}
            Derived(label, session, "T1w", predicted_desc("", age), facts).write(root, image)
    cost = {"seconds_per_forecast": round(sum(seconds) / len(seconds), 3)} if seconds else {}
    write_json(root / ENTRANT, {"name": model.config.name, **cost})
    return left_out
