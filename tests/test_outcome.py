"""README says what the committed reference holds."""

from __future__ import annotations

from nbkit.core.source import ROOT
from tests.benchmarks.outcome import table


def test_the_table_of_verdicts_in_the_readme_is_that_of_the_reference():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert table() in readme, "python -m tests.benchmarks.outcome prints it"
