"""Errors speak with one voice and survive the way between processes."""

import pickle

import numpy as np
import pytest
import torch

from nbkit.core.checks import (
    NbkitError, check_finite, check_keys, check_labels, check_same_grid, closest, known, require,
)


def test_message_names_where_expected_found_and_remedy():
    with pytest.raises(NbkitError) as caught:
        require(False, "f: x", expected="1", found=2, remedy="Pass 1.")
    assert str(caught.value) == "f: x: expected 1, found 2. Pass 1."


def test_an_error_survives_pickling():
    error = NbkitError("w", expected="e", found="f", remedy="r.")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.remedy) == (str(error), "r.")


@pytest.mark.parametrize(("given", "near"), [("lapto", "laptop"), ("Smoke", "smoke"), ("zzz", None)])
def test_did_you_mean(given, near):
    hint = closest(given, ["laptop", "smoke", "paper"])
    assert hint == (f"Did you mean {near!r}? " if near else "")
    with pytest.raises(NbkitError, match="one of laptop, paper, smoke"):
        known(given, ["laptop", "smoke", "paper"], "here")


def test_unknown_key_is_refused_and_known_keys_pass():
    check_keys({"a": 1}, ["a", "b"], "here")
    with pytest.raises(NbkitError, match="here.*'epoch'.*Did you mean 'epochs'"):
        check_keys({"epoch": 1}, ["epochs"], "here")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([1.0, float("nan")], "1 NaN"), ([1.0, float("inf")], "1 NaN or infinite"), ([3.0, 3.0], "constant image"),
        ([], "constant"),
    ],
)
def test_bad_images_are_refused(values, words):
    with pytest.raises(NbkitError, match=words):
        check_finite(torch.tensor(values), "scan.nii.gz")


def test_good_images_pass():
    check_finite(torch.tensor([0.0, 1.0]), "x")
    check_finite(np.array([0, 1], dtype=np.uint8), "x")


def test_fractions_in_labels_are_refused_with_an_example():
    check_labels(torch.tensor([0.0, 7.0]), "x")
    check_labels(torch.tensor([0, 7]), "x")
    with pytest.raises(NbkitError, match="1 voxels with fractions, e.g. 1.5"):
        check_labels(torch.tensor([0.0, 1.5]), "labels.nii.gz")


def test_grids_must_agree():
    eye = np.eye(4)
    check_same_grid((2, 3, 4), eye, (2, 3, 4), eye + 1e-4, "x")
    with pytest.raises(NbkitError, match="shape"):
        check_same_grid((2, 3, 4), eye, (2, 3, 5), eye, "x")
    flipped = np.diag([-1.0, 1, 1, 1])
    with pytest.raises(NbkitError, match="differ by up to 2"):
        check_same_grid((2, 3, 4), eye, (2, 3, 4), flipped, "x")
