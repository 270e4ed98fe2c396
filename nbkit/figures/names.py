"""Who and what the ageing figures show: models, futures, diagnoses and regions, each with one name and one mark."""

from __future__ import annotations

from collections.abc import Iterable

from nbkit.figures.style import Mark, marks

MODELS: dict[str, Mark] = {
    "truth": Mark("truth", "#000000", "o"),
    "inbrainsyn": Mark("InBrainSyn", "#0072B2", "s"),
    "no_pt": Mark("No-PT", "#D55E00", "^"),
    "mrextrap": Mark("MRExtrap", "#E69F00", "P"),
    "brlp": Mark("BrLP", "#009E73", "v"),
    "daninet": Mark("DaniNet", "#CC79A7", "D"),
    "population": Mark("population mean change", "#56B4E9", "p"),
    "no_change": Mark("no change", "#8C8C8C", "X"),
    "gan_templates": Mark("GAN templates", "#882255", "H"),
    "kernel_templates": Mark("kernel templates", "#332288", "8"),
    "no_transport": Mark("not transported", "#661100", "1"),
    "wrong_sign": Mark("wrong sign", "#999933", "3"),
}
"""Trajectory models; the figures of one run never show two of these under one colour or marker."""

ESTIMATES: dict[str, Mark] = {
    "brlp_one_sample": Mark("BrLP, one sample", "#7FD1B9", "d"),
    "mrextrap_ols": Mark("MRExtrap, least squares", "#8C510A", "<"),
    "mrextrap_bayes": Mark("MRExtrap, posterior", "#E69F00", "P"),
    "mrextrap_population": Mark("MRExtrap, population slope", "#56B4E9", "p"),
    "pixel_ols": Mark("voxels, least squares", "#6B6400", ">"),
    "pixel_population": Mark("voxels, population slope", "#B3A800", "h"),
    "mrextrap_anchored": Mark("MRExtrap, least squares, anchored", "#C49A6C", "4"),
    "hindsight": Mark("true follow-up, as read", "#444444", "*"),
    "autoencoder": Mark("true follow-up, reconstructed", "#777777", "x"),
}
"""Ways to draw a line through a person's latents or voxels, and the true scan; beside MODELS without "mrextrap" and
"population"."""

FUTURES: dict[str, Mark] = {
    "HC": Mark("HC", "#0072B2", "s"),
    "AD": Mark("AD", "#D55E00", "v"),
    "HC→AD": Mark("HC, then AD", "#CC79A7", "D"),
}
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

_REGIONS = {"csf": "CSF", "white_matter": "white matter", "deep_grey": "other deep grey matter"}
_LOBES = ("frontal", "parietal", "temporal", "occipital", "limbic")


def marks_of(names: Iterable[str]) -> dict[str, Mark]:
    """Mark of each model, estimate, future or transport; a name that is not known is its own title."""
    return marks(names, {**TRANSPORTS, **FUTURES, **ESTIMATES, **MODELS})


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
