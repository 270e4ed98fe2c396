"""Settings: frozen dataclasses whose defaults are the published values, with profiles and did-you-mean."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from nbkit.core.checks import check_keys, known

PROFILES = ("smoke", "laptop", "overnight", "paper")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Base of every system's ``Config``.

    Subclasses are frozen dataclasses; ``profiles`` maps a profile to the fields it changes. The
    defaults are the published values, so the ``paper`` profile changes nothing unless it says so;
    ``overnight`` changes what ``laptop`` does, and then what it says itself.
    """

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    @classmethod
    def for_profile(cls, profile: str, **changes: Any) -> Self:
        """Settings of ``smoke``, ``laptop``, ``overnight`` or ``paper``, with single fields changed by keyword.

        Raises
        ------
        NbkitError
            For an unknown profile or field, with the nearest valid name.
        """
        known(profile, PROFILES, f"{cls.__qualname__}.for_profile: profile")
        below = cls.profiles.get("laptop", {}) if profile == "overnight" else {}
        return cls.from_dict({**below, **cls.profiles.get(profile, {}), **changes})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build from a mapping; unknown keys are refused by name. Lists become tuples."""
        names = [f.name for f in dataclasses.fields(cls)]
        check_keys(values, names, f"{cls.__qualname__}")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})

    def changed(self, **changes: Any) -> Self:
        """A copy with some fields changed; unknown names are refused."""
        return self.from_dict({**self.as_dict(), **changes})

    def as_dict(self) -> dict[str, Any]:
        """Plain values, in field order, ready for JSON."""
        return dataclasses.asdict(self)

    def digest(self) -> str:
        """Twelve hex digits that change when any value changes."""
        return digest(self.as_dict())


def digest(value: Any) -> str:
    """Twelve hex digits of a JSON-able value."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
