"""3D SSIM beside scikit-image on one image of the published size, equal to it to 1e-5."""

from __future__ import annotations

import pytest
import torch
from skimage.metrics import structural_similarity

from nbkit.core.windows import filter_separable, gaussian_kernel
from nbkit.metrics.image import ssim

SHAPE, RANGE = (208, 256, 40), 1000.0

Pair = tuple[torch.Tensor, torch.Tensor]


@pytest.fixture(scope="module")
def pair() -> Pair:
    """A smooth image and a noisy copy, (1, 1, X, Y, Z) float32."""
    g = torch.Generator().manual_seed(0)
    truth = 400 + 800 * filter_separable(torch.randn(1, 1, *SHAPE, generator=g), (gaussian_kernel(2.0),) * 3)
    return truth + 20 * torch.randn(truth.shape, generator=g), truth


def reference(pair: Pair) -> float:
    """scikit-image's structural similarity with Wang's window."""
    return structural_similarity(
        *(image[0, 0].numpy() for image in pair), data_range=RANGE, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False,
    )


CONTENDERS = {"nbkit": lambda pair: float(ssim(*pair, data_range=RANGE)), "scikit-image": reference}


@pytest.mark.benchmark(group="SSIM 3D, 208×256×40")
@pytest.mark.parametrize("who", list(CONTENDERS))
def test_ssim(benchmark, pair, who):
    value = benchmark.pedantic(CONTENDERS[who], args=(pair,), rounds=5, warmup_rounds=1)
    assert value == pytest.approx(CONTENDERS["scikit-image"](pair), abs=1e-5)
