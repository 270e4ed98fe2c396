"""DCGAN-PET (Islam and Zhang, Brain Informatics 2020): new FDG-PET images of three stages of Alzheimer's disease.

What the paper claims: a DCGAN trained for each stage (healthy, mild cognitive impairment, Alzheimer's disease) draws
brain PET images whose PSNR and SSIM to real ones, and whose histograms, are like those of real images. A
classifier of stages gains some ten points of accuracy when it learns from synthetic images too.

``pet_dcgan`` is the generator of slices and volumes, ``settings`` its Config, ``dcgan`` its networks, ``losses`` what
they are trained by, ``metrics`` and ``features`` the distances between images and sets of them, ``augmentation_study``
the classifier, ``room`` what anyone could reach; ``experiments``, ``generator_experiments`` and
``augmentation_experiments`` the tables and figures as tidy frames, ``figures`` and ``network_figures`` their drawings.
"""

from nbkit.papers.pet_dcgan.pet_dcgan import PetDCGAN
from nbkit.papers.pet_dcgan.settings import Config

__all__ = ["Config", "PetDCGAN"]
