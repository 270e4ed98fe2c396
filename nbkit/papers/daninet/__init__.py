"""DaniNet (Ravì, Alexander and Oxtoby, MICCAI 2019): slices of a brain at other ages, under biological constraints.

What the paper claims: a conditional adversarial autoencoder (CAAE) that is told age and diagnosis (C), held by
constraints on how voxels and regions change with age (P), and tuned on each person (T), simulates slices closer to
the true follow-up, in SSIM, than any of its parts and than face ageing [9]. People who are asked prefer it.

``daninet`` is the system and its baseline [9], ``constraints`` the losses of Section 2.3, ``personalise`` the tuning
on one person, ``experiments`` Table 1 and the follow-ups, ``progression`` Figures 2 and 4, ``observer`` an automated
reader in place of the survey.
"""

from nbkit.papers.daninet.config import VARIANTS, Config
from nbkit.papers.daninet.daninet import DaniNet
from nbkit.papers.daninet.daninet3d import Config3D, DaniNet3D

__all__ = ["VARIANTS", "Config", "Config3D", "DaniNet", "DaniNet3D"]
