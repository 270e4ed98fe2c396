"""DCGAN-PET (Islam and Zhang, Brain Informatics 2020): new FDG-PET images of three stages of Alzheimer's disease.

What the paper claims: a DCGAN trained for each stage (healthy, mild cognitive impairment, Alzheimer's disease) draws
brain PET images whose PSNR and SSIM to real ones, and whose histograms, are like those of real images; and a
classifier of stages gains some ten points of accuracy when it learns from synthetic images too.

``pet_dcgan`` is the generator, ``dcgan`` its networks, ``metrics`` the distances between sets of images,
``augmentation_study`` the classifier, ``experiments`` Figures 6 to 9.
"""

from nbkit.papers.pet_dcgan.pet_dcgan import Config, PetDCGAN

__all__ = ["Config", "PetDCGAN"]
