"""The frozen rules of every task: ``data_manifests/tasks/<task>-<version>.toml``, each known by its hash."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbkit.core.checks import known, require
from nbkit.core.config import PROFILES
from nbkit.core.project import FILES
from nbkit.core.protocols import Cohort

FOLDER = FILES / "data_manifests" / "tasks"
FROZEN: Mapping[str, str] = {
    "ageing-1": "90b80d7d8e2f784a27a190417d74953be2292584c4d4a5bc9d0016405e7f933f",
    "contrast-1": "6b9b36cdab07213a5f7f2f4939f95b714f6c23fb4cc3af97debc2dba44b89165",
    "slice-1": "00f03159f69020d2cdfd7e339e897de7e5b97165bfb2791e11a7f6dcdce95880",
    "pet-1": "db8427f8cf3b64aabbfe42416b9b5b3b07c2b62b5bca1329e2e0825e8368f983",
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


class Task:
    """What every task says of itself; a subclass holds these."""

    people: Cohort
    rules: Rules
    level: str
    profile: str
    seed: int

    def told(self, **more: Any) -> dict[str, Any]:
        """What its data set says of it, and `more`."""
        return {
            "Task": self.rules.id, "TaskSHA256": self.rules.hash, "Cohort": self.people.name, "Level": self.level,
            "Profile": self.profile, "Seed": self.seed, "DataHash": self.people.provenance.get("data_hash"), **more,
        }

    @property
    def truth_said(self) -> str:
        """How open the truth of the cohort is."""
        return self.rules.told["truth"][self.level]


def asked_for(
    task: str, level: str, profile: str, seed: int | None, *, cohorts: Collection[str]
) -> tuple[Rules, int]:
    """Rules and seed of a task on a cohort, by default that of the rules; an unknown word is refused."""
    frozen = rules(task)
    known(level, cohorts, "--cohort")
    known(profile, PROFILES, "--profile")
    return frozen, frozen.told["split"]["seed"] if seed is None else seed
