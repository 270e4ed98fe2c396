"""MRExtrap (Kapoor, Macke and Baumgartner): a straight line through a person's latents, continued and decoded.

What the paper claims: the latents of a convolutional autoencoder of brain scans change linearly with age, so that
half-way between two scans lie the mean volumes. Lines through a person's latents predict later scans, better with
more scans, and competitive with DaniNet; a prior over slopes would extend this to a single scan.

``mrextrap`` is the system, ``losses`` what its autoencoder minimises; ``volumes`` reads what models make, ``metrics``
scores it, ``likeness`` whose scan an image is, ``rooms`` what could be won at all; ``experiments`` gives Figures 1 and
2 as tidy frames, ``figures`` draws them. The lines and the prior over slopes are shared with lines through voxels
(``trajectories.slopes``).
"""

from nbkit.papers.mrextrap.mrextrap import Config, MRExtrap

__all__ = ["Config", "MRExtrap"]
