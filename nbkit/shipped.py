"""Weights that come with the project, in place of a training at the same settings on the same people. Rank 6.

A folder of ``reference/weights`` holds a saved system (half precision) and ``card.json``: the settings it stands in
for, and what it gives for one of those it learned from. That is asked again when it is read:
weights that say something else, because the model, the data or the machine's arithmetic changed, are not used.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool3d

from nbkit.core.checks import NbkitError, known
from nbkit.core.protocols import Cohort, Scan
from nbkit.data.shipped import shipped_folder, weights_list
from nbkit.data.splits import subject_hash
from nbkit.training.offered import Offer, offering

log = logging.getLogger(__name__)
CARD = "card.json"
SHIPPED, TRAIN = "shipped", "train"
SAID = "shipped: systems whose weights come with the project are read; train: all are trained here."
NEAR = 0.02
"""Largest difference from the numbers kept, in standard deviations of these."""
_CELLS, _ELSEWHERE = 4, ("device",)


def use(weights: str, where: str = "--weights") -> None:
    """From now on, in this process, read what comes with the project ("shipped"), or train everything ("train")."""
    offering(find if known(weights, (SHIPPED, TRAIN), where) == SHIPPED else None)


def find(model: Any, people: Cohort, key: Any = None) -> Offer | None:
    """The listed weights of a system like `model`, learned from exactly `people`; for ``training.offered.offering``.

    Settings must be those the weights stand in for, the device apart; `key` too.
    """
    for name, entry in weights_list().items():
        same = entry["system"] == type(model).__name__ and entry["cohort"] == people.name
        if same and entry["training_subjects"] == subject_hash(people.ids):
            folder = shipped_folder(name)
            card = json.loads((folder / CARD).read_text(encoding="utf-8")) if (folder / CARD).is_file() else {}
            if card and _stands_for(card["stands_for"], model, key):
                return Offer(name, entry["sha256"], partial(_read, name, folder, card, model, people))
    return None


def _stands_for(kept: Mapping[str, Any], model: Any, key: Any) -> bool:
    """Whether kept settings are those of `model`; what came into the settings since has its default."""
    now = stands_for(model.config.as_dict(), key)
    try:
        before = _plain(model.config.from_dict(kept["settings"]).as_dict())
    except NbkitError:
        return False
    both = isinstance(kept["key"], dict) and isinstance(now["key"], dict)
    other = {k: now["key"].get(k) for k in kept["key"]} if both else now["key"]
    return before == now["settings"] and kept["key"] == other


def stands_for(settings: Mapping[str, Any], key: Any) -> dict[str, Any]:
    """Settings and key as a card holds them: JSON values, without the device."""
    return {"settings": _plain(settings), "key": _plain(key)}


def _plain(value: Any) -> Any:
    value = json.loads(json.dumps(value))
    return {k: v for k, v in value.items() if k not in _ELSEWHERE} if isinstance(value, dict) else value


def _read(
    name: str, folder: Path, card: Mapping[str, Any], model: Any, people: Cohort, load: Callable[[Path], Any]
) -> Any:
    found = load(folder)
    numbers, kept = probe(found, people), np.asarray(card["gives"])
    off = np.abs(numbers - kept).max() / max(float(kept.std()), 1e-12) if numbers.shape == kept.shape else np.inf
    if off > NEAR:
        log.warning("the weights %s no longer give what they gave (off by %.3g SD): trained here instead", name, off)
        return None
    log.info("read %s, which comes with the project", name)
    return found


def probe(model: Any, people: Cohort) -> np.ndarray:
    """Numbers that tell whether a system still does what it did: its output for the first of `people` who can be asked.

    Images are averaged over 4 × 4 × 4 blocks, four drawn slices as one stack; a segmenter gives its volumes in mm³.

    Raises
    ------
    NbkitError
        That of the last person, where nobody can be asked.
    """
    for subject in people:
        try:
            return _asked(model, subject)
        except NbkitError as error:
            last = error
    raise last


def _asked(model: Any, subject: Any) -> np.ndarray:
    scan: Scan = subject.baseline
    if hasattr(model, "synthesize"):
        return _pooled(model.synthesize(scan.images, mask=scan.mask("brain")).data)
    if hasattr(model, "predict"):
        return _pooled(model.predict(subject.scans[:2], [subject.scans[-1].age], subject.diagnosis)[0].data)
    if hasattr(model, "sample_images"):
        return _pooled(model.sample_images(4, model.stages[0], 0, view=model.views[0])[:, 0])
    return np.array(list(model.volumes(scan.image("T1w"), mask=scan.mask("brain")).values()))


def _pooled(image: torch.Tensor) -> np.ndarray:
    return adaptive_avg_pool3d(image.float().reshape(1, 1, *image.shape[-3:]), _CELLS).double().flatten().numpy()
