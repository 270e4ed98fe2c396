"""What holds for a whole data set and stands in none of its tables: ``.nbkit.toml`` in the folder of the tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from nbkit.core.checks import check_keys, require
from nbkit.core.toml_files import read_toml

SETTINGS = ".nbkit.toml"
_EXAMPLE = 'Write lines such as diagnosis = "CN" and sex_codes = {1 = "M", 2 = "F"}.'


@dataclass(frozen=True)
class OwnSettings:
    """Settings of a data set.

    Parameters
    ----------
    diagnosis : str or None
        Of every visit whose diagnosis no table says.
    sex_codes : mapping of str to str
        What the codes in the column sex mean.
    """

    diagnosis: str | None = None
    sex_codes: Mapping[str, str] = field(default_factory=dict)


def read_settings(folder: Path) -> OwnSettings:
    """What ``.nbkit.toml`` in `folder` says; nothing where there is none.

    Raises
    ------
    NbkitError
        For a file that is no TOML, an unknown name, or a value of the wrong kind.
    """
    path = folder / SETTINGS
    if not path.is_file():
        return OwnSettings()
    values = read_toml(path, remedy=_EXAMPLE)
    check_keys(values, [f.name for f in fields(OwnSettings)], SETTINGS)
    codes = values.get("sex_codes", {})
    good = isinstance(values.get("diagnosis", ""), str) and isinstance(codes, dict)
    require(
        good and all(isinstance(sex, str) for sex in codes.values()), SETTINGS,
        expected="a diagnosis as text, sex_codes as a table of texts", found=values, remedy=_EXAMPLE,
    )
    return OwnSettings(**values)
