"""One scan at a glance, for the page of `nbkit data check`: three planes by nilearn, mask outline, left and right."""

from __future__ import annotations

import io

import nibabel as nib
import numpy as np
from matplotlib.colors import to_rgb
from nilearn import plotting
from PIL import Image
from scipy import ndimage

from nbkit.core.checks import check_finite
from nbkit.core.volume import Volume
from nbkit.figures.style import LESION, Picture, look, new_figure

OUTLINE, GREYS, REDS = LESION, 40, 16


@look()
def scan_picture(image: Volume, mask: Volume | None = None, *, width_mm: float = 150.0) -> Picture:
    """Sagittal, coronal and axial cut through the middle of the brain, in neurological orientation, true to mm.

    Parameters
    ----------
    image : Volume
        One channel, any axis order.
    mask : Volume, optional
        On the same grid; its outline is drawn and its centre is cut. Without it, the centre of the bright part.

    Raises
    ------
    NbkitError
        For a constant image, or a mask on another grid.
    """
    check_finite(image.data, "scan_picture: image")
    figure = new_figure(width_mm, 0.4 * width_mm, layout=None)
    values, inside = _in_memory(image), None
    if mask is not None:
        image.check_grid(mask, "scan_picture: image and mask")
        inside = _in_memory(mask)
    low, high = np.percentile(values.get_fdata(), (1, 99.5))
    display = plotting.plot_anat(
        values, display_mode="ortho", draw_cross=False, colorbar=False, figure=figure, black_bg=True, vmin=low,
        vmax=max(high, low + 1e-6), cut_coords=_centre(image if mask is None else mask),
    )
    if inside is not None and not mask.data.bool().all():
        display.add_contours(inside, levels=[0.5], colors=[OUTLINE], linewidths=0.8)
    return figure


def _centre(weight: Volume) -> np.ndarray:
    """World coordinates (mm) of the centre of mass of what is above the mean."""
    values = weight.data[0].detach().cpu().numpy().astype(np.float32)
    return nib.affines.apply_affine(weight.affine, ndimage.center_of_mass(np.clip(values - values.mean(), 0, None)))


def _in_memory(volume: Volume) -> nib.Nifti1Image:
    data = volume.data[0].detach().cpu()
    return nib.Nifti1Image(data.numpy().astype(np.float32), volume.affine)


def png(figure: Picture, *, dpi: int = 84) -> bytes:
    """The figure as a PNG of few colours: some 30 KB for a head."""
    buffer, small = io.BytesIO(), io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="black")
    picture = Image.open(buffer).convert("RGB").quantize(palette=_palette(), dither=Image.Dither.NONE)
    picture.save(small, format="png", optimize=True)
    return small.getvalue()


def _palette() -> Image.Image:
    """Greys, and the outline's red over them: a palette made from the picture would drop a thin line."""
    greys = np.linspace(0, 255, GREYS)[:, None].repeat(3, 1)
    under = np.linspace(0, 255, REDS // 2)[:, None]
    red = 255 * np.array(to_rgb(OUTLINE))
    colours = np.concatenate([greys, *(a * red[None] + (1 - a) * under for a in (1.0, 0.6))])
    image = Image.new("P", (1, 1))
    image.putpalette(colours.round().astype(np.uint8).tobytes())
    return image
