"""Frozen rules stay as they are."""

from __future__ import annotations

import shutil

import pytest

from nbkit.benchmark.tasks import FOLDER, FROZEN, LATEST, rules
from nbkit.core.checks import NbkitError
from nbkit.papers.trajectories.design import Design

PUBLISHED = {
    "ageing-1": "90b80d7d8e2f784a27a190417d74953be2292584c4d4a5bc9d0016405e7f933f",
    "contrast-1": "6b9b36cdab07213a5f7f2f4939f95b714f6c23fb4cc3af97debc2dba44b89165",
    "slice-1": "00f03159f69020d2cdfd7e339e897de7e5b97165bfb2791e11a7f6dcdce95880",
    "pet-1": "db8427f8cf3b64aabbfe42416b9b5b3b07c2b62b5bca1329e2e0825e8368f983",
}
"""Once more, so that file and FROZEN cannot be changed together without this: another rule is another number."""


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
