"""How a predicted image is scored against the visit that came true."""

from __future__ import annotations

import torch

from nbkit.core.protocols import Scan
from nbkit.core.volume import Volume
from nbkit.metrics.image import mae, psnr, ssim
from nbkit.metrics.sharpness import sharpness

PEAK_QUANTILE = 0.999
"""Images are divided by this quantile of the last scan seen inside its brain; the peak of PSNR and SSIM is then 1."""


def image_scores(last: Scan, scan: Scan, image: Volume) -> dict[str, float]:
    """PSNR (dB), SSIM and mean absolute error inside the brain and, ``*_whole``, of the whole image, and sharpness.

    The brain is the union of the masks at the last scan seen and at the visit; of sharpness what both have, so that the
    step at the edge of a brain does not count.
    """
    inside, later = last.mask("brain").data.bool(), scan.mask("brain").data.bool()
    peak = float(torch.quantile(last.image("T1w").data.float()[inside].double(), PEAK_QUANTILE))
    a, b = ((volume.data.float() / peak)[None].cpu() for volume in (image, scan.image("T1w")))
    mask, both = (inside | later)[None].cpu(), (inside & later)[None].cpu()
    return {
        "psnr": float(psnr(a, b, data_range=1.0, mask=mask)), "ssim": float(ssim(a, b, data_range=1.0, mask=mask)),
        "mae": float(mae(a, b, mask=mask)), "sharpness": float(sharpness(a, b, mask=both)),
        "psnr_whole": float(psnr(a, b, data_range=1.0)), "ssim_whole": float(ssim(a, b, data_range=1.0)),
        "mae_whole": float(mae(a, b)),
    }
