"""What changes when own data do: a finished notebook is then run again."""

from __future__ import annotations

from pathlib import Path

from nbkit.core.checks import require
from nbkit.data.bids import image_files
from nbkit.data.bids_files import IGNORE
from nbkit.data.nifti_header import files_of
from nbkit.data.own_settings import SETTINGS
from nbkit.data.text_tables import file_at, read_text_table


def table_state(table: Path) -> list[object]:
    """Cells of a CSV, sizes and dates of the files in its column path, and of the settings beside it.

    Raises
    ------
    NbkitError
        For a CSV that is not there, or that :func:`nbkit.data.text_tables.read_text_table` refuses.
    """
    require(
        table.is_file(), "COHORT", expected="a CSV that exists", found=table.name,
        remedy="Check the path; README, 'Your own data', says what the table holds.",
    )
    rows = read_text_table(table, ("path",))
    named = filter(None, (file_at(table.parent, cell) for cell in rows["path"]))
    files = [table.parent / SETTINGS, *(part for file in named for part in files_of(file))]
    stats = [file.stat() for file in files if file.is_file()]
    return [rows.to_dict("split"), [(s.st_size, s.st_mtime_ns) for s in stats]]


def folder_state(folder: Path) -> list[object]:
    """Names, sizes and dates of the images and tables of a BIDS folder, and of what says how to read them."""
    told = [folder / name for name in (SETTINGS, IGNORE, "participants.json") if (folder / name).is_file()]
    stats = [(p.relative_to(folder).as_posix(), p.stat()) for p in (*image_files(folder), *told)]
    return [(name, s.st_size, s.st_mtime_ns) for name, s in stats]
