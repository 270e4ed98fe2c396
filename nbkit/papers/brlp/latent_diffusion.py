"""Diffusion of latents under control: MONAI's DiffusionModelUNet and ControlNet for latents of any size.

Rombach et al. 2022 (latent diffusion), Zhang and Agrawala 2023 (ControlNet), Song et al. 2021 (DDIM), put together as
in BrLP (Puglisi et al. 2024).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.nets import ControlNet, DiffusionModelUNet
from monai.networks.schedulers import DDIMScheduler
from torch import nn

from nbkit.core.checks import known, require
from nbkit.core.seeds import derive
from nbkit.nets.conv import in_company

PREDICTIONS = ("epsilon", "v_prediction", "sample")
NOISE_STEPS = 1000


class LatentDiffusion(nn.Module):
    """A denoiser of latents told of covariates, and a ControlNet that tells it of a starting latent.

    Latents (B, C, x, y, z) are padded with zeros at the far end of each axis to a multiple of 2 to the number of
    halvings, and predictions are cropped back. The covariates enter as one token of cross-attention.

    Parameters
    ----------
    channels : int
        C of the latents.
    covariates : int
        Length of the context vector.
    widths : sequence of int
        Feature maps of each level; every level after the first halves the grid.
    attention : sequence of bool
        Levels with cross-attention; one head as wide as the level.
    res_blocks : int
        Residual blocks per level.
    groups : int
        Of the group normalisation; divides every width.
    embedding : int
        Feature maps of the convolution through which the starting latent and its map enter the ControlNet.
    betas : tuple of float
        Variance of the noise added at the first and at the last of 1000 steps; its root grows linearly.
    prediction : {"epsilon", "v_prediction", "sample"}
        What the network puts out: the noise, the velocity of Salimans and Ho 2022, or the clean latent.
    seed : int
        Of the weights.

    Raises
    ------
    NbkitError
        If `groups` does not divide a width, `attention` has another length, or `prediction` is unknown.
    """

    def __init__(
        self, channels: int, *, covariates: int, widths: Sequence[int], attention: Sequence[bool], res_blocks: int,
        groups: int, embedding: int, betas: tuple[float, float], prediction: str, seed: int,
    ) -> None:
        super().__init__()
        self.prediction = known(prediction, PREDICTIONS, "LatentDiffusion: prediction")
        require(
            len(widths) == len(attention) > 0 and all(w % groups == 0 for w in widths), "LatentDiffusion: widths",
            expected=f"a multiple of groups = {groups} for each of {len(attention)} entries of attention",
            found=tuple(widths), remedy="Give one width per level; lower groups, or use widths that are multiples.",
        )
        self.channels, self.betas, self.factor = channels, tuple(betas), 2 ** (len(widths) - 1)
        shared = {
            "spatial_dims": 3, "in_channels": channels, "num_res_blocks": res_blocks, "channels": tuple(widths),
            "attention_levels": tuple(attention), "norm_num_groups": groups, "with_conditioning": True,
            "num_head_channels": tuple(widths), "cross_attention_dim": covariates,
        }
        # MONAI draws its weights, zero ones among them, from the global generator
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "weights", "diffusion"))
            self.unet = in_company(DiffusionModelUNet(out_channels=channels, **shared))
            self.control = in_company(ControlNet(
                conditioning_embedding_in_channels=channels + 1, conditioning_embedding_num_channels=(embedding,),
                **shared,
            ))
        self.schedule = self._schedule()

    def start_control(self) -> None:
        """Give the ControlNet the weights of the denoiser's encoder; its zero convolutions stay as they are."""
        own = self.control.state_dict()
        self.control.load_state_dict(own | {k: v for k, v in self.unet.state_dict().items() if k in own})

    def forward(
        self, x: torch.Tensor, t: torch.Tensor, context: torch.Tensor, *, start: torch.Tensor | None = None
    ) -> torch.Tensor:
        """What `prediction` says, (B, C, x, y, z).

        Parameters
        ----------
        x : torch.Tensor
            Noisy latents (B, C, x, y, z).
        t : torch.Tensor
            Noise steps (B,), whole numbers from 0 to 999.
        context : torch.Tensor
            Covariates (B, K).
        start : torch.Tensor, optional
            Starting latent and its map (B, C + 1, x, y, z); None: the denoiser without its ControlNet.
        """
        size, token, extra = x.shape[2:], context[:, None], {}
        if start is not None:
            down, middle = self.control(self._padded(x), t, self._padded(start), context=token)
            extra = {"down_block_additional_residuals": tuple(down), "mid_block_additional_residual": middle}
        return self.unet(self._padded(x), t, context=token, **extra)[(..., *(slice(n) for n in size))]

    def loss(
        self, z: torch.Tensor, noise: torch.Tensor, t: torch.Tensor, context: torch.Tensor, *,
        start: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Mean squared error (B,) of the prediction from clean latents `z` with `noise` of the same shape added."""
        found = self(self.schedule.add_noise(z, noise, t), t, context, start=start).float()
        return (found - self._wanted(z, noise, t)).square().flatten(1).mean(dim=1)

    @torch.inference_mode()
    def sample(
        self, noise: torch.Tensor, context: torch.Tensor, *, steps: int, start: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Latents (B, C, x, y, z) that DDIM (η = 0) makes of `noise` of unit variance; no further draws.

        Steps are evenly spaced from the last of the 1000: sampling starts at the noise the network was trained with,
        and each step ends where the next begins, which MONAI's own spacing misses.

        Raises
        ------
        NbkitError
            If `steps` does not divide 1000.
        """
        require(
            0 < steps <= NOISE_STEPS and NOISE_STEPS % steps == 0, "LatentDiffusion.sample: steps",
            expected=f"a divisor of {NOISE_STEPS}", found=steps, remedy="Use 10, 20, 25 or 50.",
        )
        schedule, x = self._schedule(), noise
        schedule.set_timesteps(steps)
        for t in range(NOISE_STEPS - 1, -1, -NOISE_STEPS // steps):
            now = torch.full((len(x),), t, device=x.device)
            x, _ = schedule.step(self(x, now, context, start=start).float(), t, x)
        return x

    def _wanted(self, z: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        if self.prediction == "epsilon":
            return noise
        return z if self.prediction == "sample" else self.schedule.get_velocity(z, noise, t)

    def _padded(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x, [side for n in reversed(x.shape[2:]) for side in (0, -n % self.factor)])

    def _schedule(self) -> DDIMScheduler:
        start, end = self.betas
        return DDIMScheduler(
            NOISE_STEPS, schedule="scaled_linear_beta", beta_start=start, beta_end=end, clip_sample=False,
            prediction_type=self.prediction,
        )
