"""FLAIR from other sequences in multiple sclerosis (Wei et al., J. Med. Imaging 2019; chapter 2 of Wei's thesis).

What the paper claims: a 3D fully convolutional network of three hidden layers and 64 maps predicts FLAIR from T1w,
T1SE, T2w, PDw and DIR better than modality propagation, random forests, a U-Net and a voxelwise network, in MSE and
SSIM. It keeps the contrast of lesions; T1 sequences matter least, DIR most, and its saliency maps show why.

``conv_synthesis`` holds the three networks, ``forest_synthesis`` and ``modality_propagation`` the rivals,
``lesion_segmenter`` what reads lesions in real and synthetic FLAIR, ``saliency`` the pulse-sequence maps. ``metrics``
scores a prediction, ``experiments`` gives every table and figure as a tidy frame, ``figures`` draws.
"""

from nbkit.papers.flair.conv_synthesis import Config, ConvSynthesizer
from nbkit.papers.flair.forest_synthesis import ForestSynthesizer
from nbkit.papers.flair.lesion_segmenter import LesionSegmenter
from nbkit.papers.flair.modality_propagation import ModalityPropagation

__all__ = ["Config", "ConvSynthesizer", "ForestSynthesizer", "LesionSegmenter", "ModalityPropagation"]
