"""Tidy frames: one number a row, found by labels, paired by subject."""

import pandas as pd
import pytest

from nbkit.core.checks import NbkitError
from nbkit.core.tidy import COLUMNS, by_subject, paired, stacked, tidy, where


def frame() -> pd.DataFrame:
    return stacked(
        tidy({"a": 1.0, "b": 2.0}, id="p.mse.fcn", system="fcn", metric="mse", unit="z²", fold="f1"),
        tidy({"a": 4.0, "b": 3.0, "c": 9.0}, id="p.mse.rf", system="rf", metric="mse", unit="z²", fold="f1"),
        tidy(7, id="p.seconds", metric="seconds", unit="s"),
    )


def test_one_row_a_number_with_its_labels():
    found = frame()
    assert list(found.columns) == [*COLUMNS, "fold"] and len(found) == 6
    assert found.iloc[-1][["id", "subject", "value", "unit"]].tolist() == ["p.seconds", "", 7.0, "s"]


def test_rows_are_found_by_label_and_a_column_that_is_not_there_is_refused():
    assert by_subject(frame(), system="rf") == {"a": 4.0, "b": 3.0, "c": 9.0}
    assert len(where(frame(), metric="mse")) == 5
    with pytest.raises(NbkitError, match="Did you mean 'system'"):
        where(frame(), sistem="rf")


def test_a_subject_twice_is_refused():
    with pytest.raises(NbkitError, match="several of"):
        by_subject(frame(), metric="mse")


def test_differences_are_paired_by_subject():
    gaps = paired(where(frame(), metric="mse"), "rf")
    assert by_subject(gaps, system="fcn") == {"a": -3.0, "b": -1.0}
    assert set(paired(where(frame(), metric="mse"), "fcn")["subject"]) == {"a", "b"}
    with pytest.raises(NbkitError, match="one of fcn, rf"):
        paired(where(frame(), metric="mse"), "unet")
