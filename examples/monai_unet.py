"""A time-conditioned U-Net of MONAI, from a scan and years to the later scan, learned from pairs of visits.

The direct approach of Farki et al. 2025 (arXiv 2511.02558), small. It says the change a decade, to heed the years:

    make reproduce NB=08 MODEL=examples/monai_unet.py:MonaiUNet
"""

import itertools
import random

import torch
from monai.networks.nets import DiffusionModelUNet
from safetensors.torch import load_model, save_model
from torch.nn import functional as F

STEPS, MONTHS = {"smoke": 2, "laptop": 600, "paper": 30_000}, 12.0


class MonaiUNet:
    name = "monai_unet"

    def __init__(self, profile="laptop", device="cpu", seed=7):
        self.draw, _ = random.Random(seed), torch.manual_seed(seed)
        self.device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        self.steps = STEPS.get(profile, STEPS["laptop"])
        self.net = DiffusionModelUNet(3, in_channels=1, out_channels=1, channels=(8, 16, 32, 32), num_res_blocks=1,
                                      attention_levels=(False,) * 4, norm_num_groups=8).to(self.device)

    def _later(self, images, years):
        x, y, z = images.shape[-3:]
        padded = F.pad(images, (0, -z % 8, 0, -y % 8, 0, -x % 8))
        return images + years.view(-1, 1, 1, 1, 1) / 10 * self.net(padded, timesteps=MONTHS * years)[..., :x, :y, :z]

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
