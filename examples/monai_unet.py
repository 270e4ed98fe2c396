"""A time-conditioned U-Net of MONAI, from a scan and years to the later scan, learned from pairs of visits.

The direct approach of Farki et al. 2025 (arXiv 2511.02558), as small as a laptop allows. The network says the change a
decade, so that no time is no change; one that says the change itself never learned to heed the years.

    make reproduce NB=08 MODEL=examples/monai_unet.py:MonaiUNet
"""

import itertools
import random

import torch
from monai.networks.nets import DiffusionModelUNet
from safetensors.torch import load_model, save_model
from torch.nn import functional as F

STEPS, MONTHS = {"smoke": 2, "laptop": 1500, "paper": 30_000}, 12.0


class MonaiUNet:
    name = "monai_unet"

    def __init__(self, profile="laptop", device="cpu", seed=7):
        self.draw, _ = random.Random(seed), torch.manual_seed(seed)
        self.device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        self.steps = STEPS.get(profile, STEPS["laptop"])
        self.net = DiffusionModelUNet(3, in_channels=1, out_channels=1, channels=(8, 16, 32), num_res_blocks=1,
                                      attention_levels=(False,) * 3, norm_num_groups=8).to(self.device)

    def _later(self, images, years):
        shape = images.shape[-3:]
        padding = [n for size in reversed(shape) for n in (0, -size % 4)]
        decade = self.net(F.pad(images, padding), timesteps=MONTHS * years)[..., : shape[0], : shape[1], : shape[2]]
        return images + years.view(-1, 1, 1, 1, 1) / 10 * decade

    def fit(self, cohort):
        pairs = [pair for subject in cohort for pair in itertools.combinations(subject.scans, 2)]
        adam = torch.optim.Adam(self.net.parameters(), lr=1e-3)
        for _ in range(self.steps):
            drawn = self.draw.choices(pairs, k=2)
            first, later = (torch.stack([pair[k].image("T1w").data for pair in drawn]).to(self.device) for k in (0, 1))
            years = torch.tensor([b.age - a.age for a, b in drawn], device=self.device)
            adam.zero_grad()
            F.l1_loss(self._later(first, years), later).backward()
            adam.step()

    @torch.no_grad()
    def predict(self, history, ages, diagnosis):
        last = history[-1]
        image, brain = last.image("T1w").data[None].to(self.device), last.mask("brain").data.to(self.device)
        years = (torch.tensor([age - last.age], device=self.device) for age in ages)
        return [(self._later(image, ahead)[0] * brain).clamp(min=0) for ahead in years]

    def save(self, path):
        save_model(self.net, path / "unet.safetensors")

    @classmethod
    def load(cls, path):
        model = cls()
        load_model(model.net, path / "unet.safetensors")
        return model
