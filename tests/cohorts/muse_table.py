"""A table of MUSE regions such as the published one, made of the names that the project groups."""

from __future__ import annotations

from nbkit.phantom.parameters import Parameters

SINGLE = {"CortCSF", "3rdVentricle", "4thVentricle", "CorpCall", "BrainStem"}


def atlas_rows(parameters: Parameters) -> dict[str, int]:
    """Codes by region, one per side but for what has none; 46 and 69 are left out as in the published table."""
    names = [name for group in parameters.section("muse").values() for name in group]
    rows, code = {}, 1
    for name in names:
        for side in ("",) if name in SINGLE or name.startswith("CerebellarVermal") else ("_L", "_R"):
            rows[name + side] = code
            code += 1 + (code + 1 in (46, 69))
    return rows
