"""Tables are made once for the same models, people and key, and read back equal."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module

import numpy as np
import pandas as pd

from nbkit.core.config import Settings
from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.training.kept import kept_tables

PEOPLE = Cohort("few", (Subject("007", None, "CN", (Scan("007", "1", 60.0, {}),)),), "embedded", {"data_hash": "a"})


@dataclass(frozen=True)
class Config(Settings):
    """One setting."""

    width: int = 1


class Model:
    """Has settings and training people."""

    def __init__(self, width: int = 1, trained_on: str = "x") -> None:
        self.config, self.trained_on = Config(width), trained_on


class Bare:
    """Has no settings."""


def test_tables_come_back_as_they_were_made(tmp_path):
    made = []
    rows = pd.DataFrame({"subject": ["007"], "session": ["01"], "x": [0.1 + 0.2], "y": [np.nan]})

    def make():
        made.append(1)
        return {"rows": rows, "none": pd.DataFrame()}

    found = [
        kept_tables("t", make, models={"m": Model()}, cohort=PEOPLE, key=1, cache=Cache(tmp_path)) for _ in range(2)
    ]
    assert len(made) == 1
    for tables in found:
        assert list(tables) == ["none", "rows"] and tables["none"].empty
        pd.testing.assert_frame_equal(tables["rows"], rows, check_dtype=False)


def test_whatever_the_tables_depend_on_makes_them_anew(tmp_path):
    made = []

    def ask(model=None, cohort=PEOPLE, key=1):
        kept_tables(
            "t", lambda: made.append(1) or {"rows": pd.DataFrame({"x": [1]})}, models={"m": model or Model()},
            cohort=cohort, key=key, cache=Cache(tmp_path),
        )
        return len(made)

    other = replace(PEOPLE, provenance={"data_hash": "b"})
    alone = replace(PEOPLE, subjects=())
    counts = [ask(), ask(Model(2)), ask(Model(trained_on="y")), ask(Bare()), ask(cohort=other), ask(cohort=alone),
              ask(key=2), ask()]
    assert counts == [1, 2, 3, 4, 5, 6, 7, 7]


def test_tables_depend_on_the_segmenter_within_a_model(tmp_path):
    made, outer = [], Model()
    other = import_module("nbkit.core.recent").Recent(1)  # of a module that this one does not import
    for inner in (None, other, None):
        outer.segmenter = inner
        kept_tables(
            "t", lambda: made.append(1) or {"rows": pd.DataFrame({"x": [1]})}, models={"m": outer}, cohort=PEOPLE,
            key=1, cache=Cache(tmp_path),
        )
    assert len(made) == 2
