"""Myelin PET from MRI (Wei et al., Med. Image Anal. 2019 and NeuroImage 2020; chapters 3 and 4 of Wei's thesis).

What the papers claim: a generator refined by a second one (Sketcher-Refiner), trained against a discriminator of
patches with a loss weighted by tissue, predicts [11C]PIB DVR from MTR and diffusion maps closer than a U-Net, a
two-layer network and unrefined GANs; attention and residual blocks (CF-SAGAN) add to that; and indices of myelin
lost and regained, from predicted maps, go with disability as those from true maps do.

``synthesis`` is the family of systems, ``staged`` and ``networks`` what they are built of, ``inputs`` what they see,
``stages`` and ``losses`` how they are trained one after the other; ``metrics`` scores and indices, ``experiments`` the
tables and figures of chapter 3, ``index_experiments`` those of chapter 4, ``figures`` and ``map_figures`` draw them.
"""

from nbkit.papers.myelin.synthesis import Config, MyelinSynthesizer

__all__ = ["Config", "MyelinSynthesizer"]
