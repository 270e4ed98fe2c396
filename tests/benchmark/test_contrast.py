"""The task "contrast": the target stays behind, the truth gets nothing wrong, who is forgotten counts as the mean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nbkit.benchmark import contrast
from nbkit.benchmark.contrast import open_contrast
from nbkit.benchmark.small_page import write_small_page
from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort
from nbkit.core.volume import Volume
from nbkit.data import nifti
from nbkit.papers.trajectories.ranking import standings
from tests.papers.trajectories.ageing_balls import AFFINE, person


def people() -> Cohort:
    """Balls whose FLAIR is a bent function of T1w, with a grain that no input tells."""
    made = []
    for k in range(12):
        one = person(f"P-{k}", "HC", ages=(60.0,), size=1 + 0.02 * k, centre=(k, 0, -k))
        scan = one.baseline
        t1, brain = scan.image("T1w"), scan.mask("brain").data
        noise = torch.from_numpy(np.random.default_rng(k).normal(0, 0.05, t1.data.shape)).float()
        flair = Volume((1 + t1.data.square() * 3 + noise) * brain, AFFINE)
        masks = {**scan.masks, "lesions": scan.masks["brain"].with_data(brain & False), "nawm": scan.masks["brain"]}
        made.append(replace(one, sex="F", scans=(replace(scan, images={"T1w": t1, "FLAIR": flair}, masks=masks),)))
    return Cohort("balls", tuple(made), "embedded", {"data_hash": "abc", "licence": "CC0", "attribution": "Somebody"})


def scanned_for_myelin() -> Cohort:
    """The same balls with four maps, DVR a product of two of them with a grain."""
    made = []
    for one in people():
        scan, brain = one.baseline, one.baseline.mask("brain").data
        t1, grain = scan.image("T1w").data, scan.image("FLAIR").data
        maps = {"MTR": t1, "FA": t1.sqrt(), "RD": (2 - t1) * brain, "AD": (3 - t1) * brain, "DVR": grain * t1}
        lesion = brain & (torch.arange(brain.shape[1]) < brain.shape[1] // 2)[None, :, None, None]
        whole = scan.masks["brain"]
        masks = {"brain": whole, "nawm": whole, "wm": whole, "csf": whole, "lesions": whole.with_data(lesion)}
        images = {name: Volume(data.float(), AFFINE) for name, data in maps.items()}
        scans = (replace(scan, images=images, masks=masks),)
        made.append(replace(one, diagnosis="MS" if len(made) % 2 else "HC", scans=scans))
    return replace(people(), subjects=tuple(made))


@pytest.fixture
def task(monkeypatch):
    monkeypatch.setattr(contrast, "cohort_for", lambda *_, **__: people())
    return open_contrast("embedded", profile="smoke")


def hand_in(root, task, of, *, without=()):
    for label, subject in task.tested.items():
        if label not in without:
            name = f"sub-{label}_ses-60_desc-predicted_{task.target}.nii.gz"
            place = root / f"sub-{label}" / "ses-60" / "anat" / name
            nifti.save_image(place, of(subject.baseline))
    return root


def truth(scan):
    return scan.image("FLAIR")


def test_the_target_of_test_people_is_not_given_out(task, tmp_path):
    said = task.write(tmp_path / "task")
    assert said == "6 training people, 6 test people, whose FLAIR is asked for" and task.inputs == ("T1w",)
    given = {p.name.split("_")[0] for p in (tmp_path / "task").rglob("*FLAIR*")}
    assert given == {f"sub-{task.labels[id]}" for id in task.fold.train_ids}
    assert len(list((tmp_path / "task").rglob("*_T1w.nii.gz"))) == 12
    assert set(task.wanted["subject"]) == {f"sub-{label}" for label in task.tested}


def test_the_truth_errs_by_nothing_and_who_is_forgotten_counts_as_the_mean(task, tmp_path):
    lost = list(task.tested)[0]
    entries = [task.read(hand_in(tmp_path / "true", task, truth)),
               task.read(hand_in(tmp_path / "some", task, truth, without=[lost]))]
    found = task.judge(entries)
    rows = found.frame.set_index(["system", "metric", "subject"])["value"].sort_index()
    assert (rows["true", "mse"] == 0).all() and np.allclose(rows["true", "ssim"], 1)
    who = task.tested[lost].id
    assert rows["some", "mse", who] == rows["mean", "mse", who] > 0
    assert found.forgotten == (f"some: nothing of 1 of 6 people, scored as the training mean: sub-{lost}",)
    ranks = standings(found.frame[found.frame["metric"] == "mse"].assign(setting=""), control="mean")
    assert ranks["system"].iloc[0] == "true" and {"some", "linear"} <= set(ranks["system"])
    text = write_small_page(tmp_path / "page.html", found).read_text()
    assert task.rules.hash in text and "open truth" in text and lost in text and "<script" not in text
    assert "worst person" in text and "Entrants against each other" in text


def test_myelin_pet_has_the_same_door(monkeypatch, tmp_path):
    monkeypatch.setattr(contrast, "cohort_for", lambda *_, **__: scanned_for_myelin())
    task = open_contrast("embedded", target="DVR", profile="smoke")
    assert task.inputs == ("MTR", "FA", "RD", "AD") and "whose DVR is asked for" in task.write(tmp_path / "task")
    assert len(list((tmp_path / "task").rglob("*_DVR.nii.gz"))) == len(task.fold.train_ids)
    found = task.judge([task.read(hand_in(tmp_path / "true", task, lambda scan: scan.image("DVR")))])
    rows = found.frame.set_index(["system", "metric"])["value"]
    assert (rows["true", "mse_brain"] == 0).all() and rows["mean", "mse_brain"].mean() > 0
    assert np.allclose(rows["true", "discrepancy_lesions"], 0) and set(found.titles) <= set(found.frame["metric"])
    text = write_small_page(tmp_path / "page.html", found).read_text()
    assert "MSE in the brain (DVR²)" in text and "error of the mean in lesions" in text


BAD = {
    "a training person": (
        lambda p, task: f"sub-{task.labels[task.fold.train_ids[0]]}_{p.name.split('_', 1)[1]}", "a test person"),
    "another contrast": (lambda p, task: p.name.replace("FLAIR", "T2w"), "desc-predicted_FLAIR"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_nobody_asked_for_is_refused(task, tmp_path, name):
    change, said = BAD[name]
    folder = hand_in(tmp_path / "mine", task, truth)
    path = sorted(folder.rglob("*.nii.gz"))[0]
    path.rename(path.with_name(change(path, task)))
    with pytest.raises(NbkitError, match=said):
        task.read(folder)


def test_another_grid_and_nothing_at_all_are_refused(task, tmp_path):
    folder = hand_in(tmp_path / "mine", task, lambda scan: Volume(truth(scan).data[:, 1:], AFFINE))
    with pytest.raises(NbkitError, match="grid of the scans") as error:
        task.read(folder)
    assert "6:" in str(error.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(NbkitError, match="desc-predicted_FLAIR"):
        task.read(tmp_path / "empty")
