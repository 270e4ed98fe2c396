"""InBrainSyn (Fu et al., Med. Image Anal. 2025): ageing of a group's templates, carried to one person.

What the paper claims: velocities between templates of a healthy and an ill group at different ages, moved to a person
by parallel transport (pole ladder) and integrated, give that person's future from one scan, with their own anatomy, no
fold and no training on him. It is closer to the true follow-up (PSNR, SSIM, MAE, Dice) than registering the scan
straight to the older template and than BrLP, and onset of a disease at any age can be asked for.

``inbrainsyn`` is the system, ``atlas_gan`` the published templates and ``kernel_template`` those that a small cohort
can teach, ``templates`` the test that says which of the two are judged, ``experiments`` the tables and claims,
``in_words`` what is claimed without a table, ``known_truth`` the transports where the true change is known.
"""

from nbkit.papers.inbrainsyn.atlas_gan import AtlasGAN
from nbkit.papers.inbrainsyn.inbrainsyn import GROUPS, Config, InBrainSyn, Transition
from nbkit.papers.inbrainsyn.kernel_template import KernelTemplate
from nbkit.papers.inbrainsyn.templates import judged_templates

__all__ = ["GROUPS", "AtlasGAN", "Config", "InBrainSyn", "KernelTemplate", "Transition", "judged_templates"]
