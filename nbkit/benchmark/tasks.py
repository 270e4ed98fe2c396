"""The frozen rules of every task: ``data_manifests/tasks/<task>-<version>.toml``, each known by its hash."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbkit.core.checks import known, require
from nbkit.core.source import ROOT

FOLDER = ROOT / "data_manifests" / "tasks"
FROZEN: Mapping[str, str] = {
    "ageing-1": "90b80d7d8e2f784a27a190417d74953be2292584c4d4a5bc9d0016405e7f933f",
}
"""SHA-256 of the rules by task and version. Never edited: other rules get another number."""
LATEST: Mapping[str, str] = {id.rpartition("-")[0]: id for id in FROZEN}


@dataclass(frozen=True)
class Rules:
    """What a task's file says.

    Parameters
    ----------
    id : str
        "ageing-1".
    hash : str
        SHA-256 of the file.
    told : mapping
        Its content.
    text : str
        The file itself.
    """

    id: str
    hash: str
    told: Mapping[str, Any]
    text: str

    def at(self, table: str, name: str, profile: str) -> Any:
        """A setting that depends on the profile: its own value, or that of all other profiles."""
        values = self.told[table][known(name, self.told[table], f"{self.id}: {table}")]
        return values.get(profile, values["other"])


def rules(task: str, *, folder: Path = FOLDER) -> Rules:
    """The rules of a task ("ageing", the latest version) or of one version of it ("ageing-1").

    Raises
    ------
    NbkitError
        For a task that there is not, or a file that is not the frozen one.
    """
    id = LATEST.get(task, task)
    file = folder / f"{known(id, FROZEN, 'nbkit benchmark: task')}.toml"
    require(file.is_file(), f"{file.name}", expected="the rules of the task", found="no such file",
            remedy="`git checkout -- data_manifests/tasks` brings them back.")
    content = file.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    require(
        found == FROZEN[id], f"{file.name}", expected=f"sha256 {FROZEN[id]}", found=found,
        remedy="A frozen task is never edited: other rules are a file with the next number, listed in FROZEN.",
    )
    text = content.decode("utf-8")
    return Rules(id, found, tomllib.loads(text), text)
