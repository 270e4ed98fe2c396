"""Myelin PET from MRI (Wei et al., Med. Image Anal. 2019 and NeuroImage 2020; chapters 3 and 4 of Wei's thesis).

What the paper of 2019 claims: a generator refined by a second one (Sketcher-Refiner), trained against a discriminator
of patches, predicts [11C]PIB DVR from MTR and diffusion maps closer than a U-Net, a two-layer network and unrefined
GANs. A loss weighted by tissue keeps the loss of myelin in lesions.

What the paper of 2020 claims: a refined generator with attention and residual blocks (CF-SAGAN) predicts maps of
myelin closer still, at both visits of a patient. Indices of myelin lost and regained, from predicted maps, go with
disability as those from true maps do.

``synthesis`` is the family of systems, ``staged`` and ``networks`` what they are built of, ``inputs`` what they see,
``stages`` and ``losses`` how they are trained one after the other; ``metrics`` scores and indices, ``experiments`` the
tables and figures of chapter 3, ``index_experiments`` those of chapter 4, ``figures`` and ``map_figures`` draw them.
"""

from nbkit.papers.myelin.synthesis import Config, MyelinSynthesizer

__all__ = ["Config", "MyelinSynthesizer"]
