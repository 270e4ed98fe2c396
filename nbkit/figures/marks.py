"""One table of marks: every system, future and diagnosis has one title, one colour and one marker in every figure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from nbkit.core.checks import closest, require


@dataclass(frozen=True)
class Mark:
    """How one system is drawn everywhere: never by colour alone."""

    title: str
    colour: str
    marker: str


# Okabe & Ito's eight colours, distinguishable with any colour vision, and a grey for the weakest control.
SYNTHESIS: dict[str, Mark] = {
    "fcn": Mark("3D FCN", "#0072B2", "o"),
    "longer": Mark("3D FCN, wider, longer", "#00305C", "h"),
    "longer_own": Mark("3D FCN, wider, longer, own scale", "#7A5195", "d"),
    "unet": Mark("3D U-Net", "#D55E00", "s"),
    "rf": Mark("Random forest", "#009E73", "^"),
    "mlp": Mark("Voxelwise MLP", "#CC79A7", "D"),
    "mp": Mark("Modality propagation", "#E69F00", "v"),
    "linear": Mark("Linear, all inputs", "#56B4E9", "P"),
    "t2_linear": Mark("Linear, T2-w only", "#B3A800", "X"),
    "mean": Mark("Training mean", "#8C8C8C", "."),
    "truth": Mark("truth", "#000000", "*"),
}
MYELIN: dict[str, Mark] = {
    "dnn": Mark("2-layer DNN", "#CC79A7", "D"),
    "unet_w": Mark("3D U-Net, weighted L1", "#661100", "H"),
    "cgan": Mark("Sketcher (cGAN)", "#009E73", "^"),
    "cgan_w": Mark("Sketcher, weighted L1", "#B3A800", "X"),
    "refiner": Mark("Sketcher-Refiner", "#0072B2", "o"),
    "refiner_cgan": Mark("Refiner cGAN", "#332288", "8"),
    "cfsagan": Mark("CF-SAGAN", "#E69F00", "v"),
    "refiner_cfsagan": Mark("Refiner CF-SAGAN", "#882255", "p"),
}
"""Systems of myelin PET; with the U-Net and the controls of SYNTHESIS, no two share a colour or a marker."""
TRAJECTORIES: dict[str, Mark] = {
    "inbrainsyn": Mark("InBrainSyn", "#0072B2", "s"),
    "no_pt": Mark("No-PT", "#D55E00", "^"),
    "mrextrap": Mark("MRExtrap", "#E69F00", "P"),
    "brlp": Mark("BrLP", "#009E73", "v"),
    "daninet": Mark("DaniNet", "#CC79A7", "D"),
    "countersynth": Mark("CounterSynth", "#B2182B", r"$\spadesuit$"),
    "daninet3d": Mark("DaniNet, 3D", "#A0307A", "o"),
    "population": Mark("population mean change", "#56B4E9", "p"),
    "no_change": Mark("no change", "#8C8C8C", "X"),
    "gan_templates": Mark("GAN templates", "#882255", "H"),
    "kernel_templates": Mark("kernel templates", "#332288", "8"),
    "no_transport": Mark("not transported", "#661100", "1"),
    "wrong_sign": Mark("transported, wrong sign", "#999933", "3"),
}
"""Trajectory models; the figures of one run never show two of these under one colour or marker."""
ESTIMATES: dict[str, Mark] = {
    "brlp_one_sample": Mark("BrLP, one sample", "#7FD1B9", "d"),
    "mrextrap_ols": Mark("MRExtrap, least squares", "#8C510A", "<"),
    "mrextrap_bayes": Mark("MRExtrap, posterior", "#E69F00", "P"),
    "mrextrap_bayes_anchored": Mark("MRExtrap, posterior, anchored", "#F2C14E", r"$\maltese$"),
    "brlp_anchored": Mark("BrLP, anchored", "#2F8F6F", r"$\star$"),
    "mrextrap_population": Mark("MRExtrap, population slope", "#56B4E9", "p"),
    "pixel_ols": Mark("voxels, least squares", "#6B6400", ">"),
    "pixel_population": Mark("voxels, population slope", "#B3A800", "h"),
    "mean_slope": Mark("mean slope", "#5B8C5A", r"$\clubsuit$"),
    "diagnosis_slope": Mark("slope of the diagnosis", "#A9C47F", r"$\diamondsuit$"),
    "mrextrap_anchored": Mark("MRExtrap, least squares, anchored", "#C49A6C", "4"),
    "mrextrap_lsgan": Mark("MRExtrap, least-squares critic", "#8F6BB3", "+"),
    "floor": Mark("floor: truth without noise", "#222222", "|"),
    "reach": Mark("reach: boosting, same people", "#9E9E9E", "2"),
    "reach_tenfold": Mark("reach: boosting, ten times the people", "#BDBDBD", "."),
    "hindsight": Mark("true follow-up, as read", "#444444", "*"),
    "autoencoder": Mark("true follow-up, reconstructed", "#777777", "x"),
}
"""Lines through a person's latents or voxels, and the true scan; beside TRAJECTORIES without mrextrap, population."""
FUTURES: dict[str, Mark] = {
    "HC": Mark("HC", "#0072B2", "s"),
    "HC→AD": Mark("HC, then AD", "#CC79A7", "D"),
    "MCI": Mark("MCI", "#E69F00", "P"),
}
"""Courses and stages that are not in DIAGNOSES."""
TRANSPORTS: dict[str, Mark] = {
    "none": Mark("no transport", "#8C8C8C", "X"),
    "half": Mark("half conjugation", "#0072B2", "s"),
    "full": Mark("full conjugation", "#009E73", "^"),
    "wrong": Mark("wrong sign", "#D55E00", "v"),
    "conjugation": Mark("exact conjugation", "#CC79A7", "D"),
}
DIAGNOSES: dict[str, Mark] = {
    "CN": Mark("CN", "#0072B2", "o"),
    "SMC": Mark("SMC", "#56B4E9", "s"),
    "EMCI": Mark("EMCI", "#009E73", "^"),
    "LMCI": Mark("LMCI", "#E69F00", "D"),
    "AD": Mark("AD", "#D55E00", "v"),
}
"""In the order of the disease."""
CONFIGURATIONS: dict[str, Mark] = {
    "[9]": Mark("CAAE [9]", "#8C8C8C", "X"),
    "C": Mark("C", "#56B4E9", "p"),
    "T": Mark("T", "#E69F00", "P"),
    "C-T": Mark("C-T", "#009E73", "^"),
    "P": Mark("P", "#B3A800", "h"),
    "P-C": Mark("P-C", "#D55E00", "v"),
    "P-T": Mark("P-T", "#CC79A7", "D"),
    "P-C-T": Mark("P-C-T", "#0072B2", "o"),
    "copy": Mark("input repeated", "#444444", "x"),
    "mean_change": Mark("mean change", "#882255", "H"),
}
"""Of DaniNet, in the order of its Table 1: progression (P), clinical condition (C), transfer (T), or the face-ageing
baseline [9]; then two controls."""
ENTERED: dict[str, Mark] = {}
"""Models of users, in the order in which they came (:func:`enter`)."""
FAMILIES = (SYNTHESIS, MYELIN, TRAJECTORIES, ESTIMATES, FUTURES, TRANSPORTS, DIAGNOSES, CONFIGURATIONS)
MARKS: dict[str, Mark] = {name: mark for family in FAMILIES for name, mark in family.items()}
CYCLE = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#E69F00", "v"),
         ("#56B4E9", "P"), ("#B3A800", "X"), ("#8C8C8C", "p"))

STRANGERS = (("#E6007E", "$♣$"), ("#00A3A3", "$♥$"), ("#6DBE00", "$⬟$"), ("#8A2BE2", "$☗$"), ("#FF7F6B", "$▰$"),
             ("#003F91", "$♦$"))
"""Colours and markers of users' models; no system of ours has one of them."""

CONTRASTS = {
    "T1w": "T1-w", "T1SE": "T1SE", "T2w": "T2-w", "PDw": "PD", "DIR": "DIR", "FLAIR": "FLAIR",
    "T1wCE": "T1-w post-contrast", "DVR": "[¹¹C]PIB DVR", "MTR": "MTR", "FA": "FA", "RD": "RD", "AD": "AD",
}
MASKS = {
    "wm": "white matter", "wm_hc": "WM of controls", "nawm": "normal-appearing WM", "lesions": "lesions",
    "gm": "grey matter", "csf": "CSF",
}
SHORT_INPUTS = {"t1": "T1-w", "t1se": "T1SE", "t2": "T2-w", "pd": "PD", "dir": "DIR", "t1ce": "T1-w post-contrast"}
_REGIONS = {"csf": "CSF", "white_matter": "white matter", "deep_grey": "other deep grey matter"}
_LOBES = ("frontal", "parietal", "temporal", "occipital", "limbic")


def enter(name: str) -> Mark:
    """Give a user's model a colour and a marker that it keeps in every figure of this process.

    Raises
    ------
    NbkitError
        For the name or title of a system of ours.
    """
    ours = {**{mark.title: name for name, mark in MARKS.items()}, **MARKS}
    require(
        name not in ours, f"{name}: name", expected="a name that no system here has", found=repr(name),
        remedy="Rename the class, or give it an attribute: name = \"my_model\".",
    )
    return ENTERED.setdefault(name, Mark(name, *STRANGERS[len(ENTERED) % len(STRANGERS)]))


def marks(names: Iterable[str], more: Mapping[str, Mark] | None = None) -> dict[str, Mark]:
    """Colour and marker of each name or title: what :data:`MARKS` or `more` know keeps its own, others get the rest.

    A title is as good as a name, and what is said before or after a title and a comma ("BrLP, from one scan") keeps its
    colour and gets another marker, so that one system never has two colours.
    """
    names = list(dict.fromkeys(names))
    known = {**{m.title: m for m in MARKS.values()}, **MARKS, **ENTERED, **(more or {})}
    told = {name: known.get(name) or _told(name, known, k) for k, name in enumerate(names)}
    taken = {mark.colour for mark in told.values() if mark}
    free = [pair for pair in CYCLE if pair[0] not in taken] or list(CYCLE)
    others = [n for n in names if told[n] is None]
    spare = {n: Mark(title_of(n), *free[i % len(free)]) for i, n in enumerate(others)}
    return {n: told[n] or spare[n] for n in names}


def _told(name: str, known: Mapping[str, Mark], place: int) -> Mark | None:
    """The mark of the longest title that `name` begins or ends with, under the marker of its place."""
    within = [title for title in known if name.startswith(f"{title}, ") or name.endswith(f", {title}")]
    return Mark(name, known[max(within, key=len)].colour, CYCLE[place % len(CYCLE)][1]) if within else None


def title_of(name: str) -> str:
    """What a reader sees for a system, contrast, mask or combination: ``"t1_dir"`` becomes ``"T1-w + DIR"``.

    ``"no_dir"`` becomes ``"without DIR"``; a name that is not known is shown as it is.
    """
    known = {n: m.title for n, m in MARKS.items()} | MASKS | CONTRASTS
    if name in known:
        return known[name]
    without, parts = name.startswith("no_"), name.removeprefix("no_").split("_")
    if not all(p in SHORT_INPUTS for p in parts):
        return name
    return ("without " if without else "") + " + ".join(SHORT_INPUTS[p] for p in parts)


def region_title(name: str) -> str:
    """What a reader sees for a region: ``"hippocampus_left"`` becomes ``"Left hippocampus"``.

    The lobes are grey matter: ``"frontal"`` becomes ``"Frontal cortex"``.
    """
    structure, _, last = name.rpartition("_")
    sided = last in ("left", "right")
    structure = structure if sided else name
    words = f"{structure} cortex" if structure in _LOBES else _REGIONS.get(structure, structure.replace("_", " "))
    words = f"{last} {words}" if sided else words
    return words[0].upper() + words[1:]


def spoken(text: str) -> str:
    """Text for a reader who sees no code: the name of a system, mask or region in words, all other text as it is.

    A name is known by its underscore or, like ``"brlp"``, by a title that is spelt alike; ``"mean"`` or ``"floor"`` can
    be a plain word.
    """
    title = title_of(text)
    if title == text and re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)+", text):
        title = region_title(text)
        return title[0].lower() + title[1:]
    return title if "_" in text or re.sub(r"\W", "", title).lower() == text else text


def needs(table: pd.DataFrame, columns: Iterable[str], where: str) -> None:
    """Refuse a table without rows, or without one of `columns`, with the nearest name that it has."""
    columns = list(columns)
    missing = [c for c in columns if c not in table.columns]
    require(
        not missing and len(table) > 0, f"{where}: table", expected=f"rows with the columns {', '.join(columns)}",
        found=f"no {missing[0]}" if missing else "no rows",
        remedy=f"{closest(missing[0], table.columns) if missing else ''}Rename or add the column.",
    )
