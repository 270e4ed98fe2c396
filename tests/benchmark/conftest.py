"""The task on balls, opened once a test."""

from __future__ import annotations

import pytest

from nbkit.benchmark.ageing import Ageing
from tests.benchmark.little import opened


@pytest.fixture
def task(monkeypatch) -> Ageing:
    """From one scan."""
    return opened(monkeypatch)
