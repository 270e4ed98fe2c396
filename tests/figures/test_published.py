"""Published means by system, and as differences."""

from __future__ import annotations

from types import SimpleNamespace

from nbkit.figures.published import printed

VALUES = {"ssim.ours": 0.75, "ssim.rival": 0.5, "ssim.rival.fold1": 0.1, "ssim.none": None, "psnr.rival": 9.0}
IDS = {f"p.table1.{id}": SimpleNamespace(value=value) for id, value in VALUES.items()}


def test_means_of_one_column_by_system_without_folds_and_what_is_not_printed():
    assert printed(IDS, "p.table1.ssim") == {"ours": 0.75, "rival": 0.5}


def test_differences_are_from_one_system_which_is_left_out():
    assert printed(IDS, "p.table1.ssim", against="ours") == {"rival": -0.25}
    assert printed(IDS, "p.table1.psnr", against="ours") == {}, "nothing is printed to compare with"
