"""A column for each system, one scale for all of them."""

from __future__ import annotations

import numpy as np
import pytest

from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.papers.trajectories.lineup_figures import lineup

LEVELS = {"axial": 3.0, "coronal": 0.0}


def test_every_column_has_its_picture_and_its_miss(scan):
    image = scan.image("T1w")
    later = image.with_data(image.data * 1.1)
    target = type(scan)("sub-01", "ses-2", 40.0, {"T1w": later}, scan.masks)
    made = {"inbrainsyn": image, "brlp": later.with_data(later.data + 7.0), "no_change": image}
    axes = lineup(scan, target, made, levels_mm=LEVELS).axes
    pictures = [a for a in axes if a.images and not a.get_ylabel()]
    columns = 2 + len(made)
    assert len(pictures) == 2 * (columns + columns - 1), "the truth misses nothing, so nothing is drawn there"
    titles = [" ".join(a.get_title().split()) for a in pictures[:columns]]
    assert titles == ["seen, 35.0 y", "true, 40.0 y", "InBrainSyn", "BrLP", "no change"]
    assert not any(a.get_title() for a in pictures[columns:])
    greys = {p.images[0].get_clim() for p in pictures[:columns]}
    misses = pictures[columns : 2 * columns - 1]
    assert len(greys) == 1 and len({p.images[0].get_clim() for p in misses}) == 1
    low, high = misses[0].images[0].get_clim()
    assert low == -high
    same, off = (np.asarray(misses[k].images[0].get_array()) for k in (0, 2))
    assert np.nanmedian(off) == pytest.approx(7, abs=0.01)
    assert np.allclose(same, np.asarray(misses[1].images[0].get_array()), equal_nan=True), "InBrainSyn gave the scan"


def test_bad_pictures_are_refused(scan):
    with pytest.raises(NbkitError, match="lineup: predictions"):
        lineup(scan, scan, {})
    image = scan.image("T1w")
    with pytest.raises(NbkitError, match="lineup: brlp and target"):
        lineup(scan, scan, {"brlp": Volume(image.data[:, 1:], image.affine)})
