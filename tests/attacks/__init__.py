"""Kills, full and read-only disks, injection: at a few places in `make test`, at many by `make fuzz`."""

from __future__ import annotations

import os

PLACES = 24 if os.environ.get("NBKIT_FUZZ") else 4
