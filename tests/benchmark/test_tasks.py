"""Frozen rules stay as they are."""

from __future__ import annotations

import shutil

import pytest

from nbkit.benchmark.tasks import FOLDER, FROZEN, LATEST, rules
from nbkit.core.checks import NbkitError
from nbkit.papers.trajectories.design import Design

PUBLISHED = {"ageing-1": "90b80d7d8e2f784a27a190417d74953be2292584c4d4a5bc9d0016405e7f933f"}
"""Once more, so that the file and FROZEN cannot be changed together without this line: another rule is another number."""


@pytest.mark.parametrize("id", FROZEN)
def test_a_task_is_never_edited(id):
    assert FROZEN[id] == PUBLISHED[id] == rules(id).hash
    assert rules(id).told["task"] == id.rpartition("-")[0] and rules(id).told["version"] == int(id.rpartition("-")[2])


def test_every_file_is_frozen():
    assert {file.stem for file in FOLDER.glob("*.toml")} == set(FROZEN) == set(PUBLISHED)
    assert rules("ageing").id == LATEST["ageing"]


def test_an_edited_file_is_refused(tmp_path):
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "ageing-1.toml"
    file.write_text(file.read_text().replace("other = 3", "other = 4", 1))
    with pytest.raises(NbkitError, match="never edited"):
        rules("ageing", folder=tmp_path)
    with pytest.raises(NbkitError, match="Did you mean 'ageing-1'"):
        rules("ageing-2")


@pytest.mark.parametrize("profile", ["smoke", "laptop", "paper"])
def test_the_rules_are_those_of_notebook_08(profile):
    frozen, design = rules("ageing"), Design.for_profile(profile)
    assert frozen.at("split", "folds", profile) == design.folds
    assert {name: frozen.at("history", name, profile) for name in design.shown} == design.shown
