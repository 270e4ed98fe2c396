"""BrLP (Puglisi, Alexander and Ravì, MICCAI 2024): diffusion of a scan's latents, told of age, diagnosis and volumes.

The comparator of InBrainSyn's Table 1 and of the head-to-head. What its authors claim: a latent diffusion model under
covariates, a ControlNet that knows the person's scan, and an auxiliary model of how volumes progress, forecast later
scans with smaller errors of volume than earlier systems; averages over draws are stabler than one draw.

``brlp`` is the system, ``latent_diffusion`` its networks, ``progression`` the auxiliary model of volumes.
"""

from nbkit.papers.brlp.brlp import BrLP, Config

__all__ = ["BrLP", "Config"]
