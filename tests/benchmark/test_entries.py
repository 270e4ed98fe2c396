"""What is handed in is checked whole before anything is scored: every fault by file, field and remedy."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from nbkit.benchmark.entries import read_entrants
from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.data import nifti
from tests.benchmark.little import hand_in, hand_in_images, still, volume_rows


def changed(rows: pd.DataFrame, **cells: object) -> pd.DataFrame:
    """The first row with other cells."""
    rows = rows.astype(object)
    for name, value in cells.items():
        rows.loc[0, name] = value
    return rows


VOLUMES = {
    "nan": (lambda r: changed(r, value="nan"), r"row 2: value.*mm3 above 0, found 'nan'"),
    "infinite": (lambda r: changed(r, value="inf"), "row 2: value"),
    "negative": (lambda r: changed(r, value=-3.0), "row 2: value"),
    "in words": (lambda r: changed(r, value="big"), "row 2: value.*'big'"),
    "empty": (lambda r: changed(r, value=""), "row 2: value"),
    "nobody": (lambda r: changed(r, subject="sub-HC9"), "row 2: subject.*Did you mean"),
    "a training person": (lambda r: changed(r, subject="TRAINED"), "row 2: subject.*a training person"),
    "another age": (lambda r: changed(r, age=67.5), r"row 2: age: expected an age of wanted.tsv: 62, 66.5, 70.25"),
    "no age": (lambda r: changed(r, age="old"), "row 2: age: expected an age in years"),
    "an unknown region": (lambda r: changed(r, region="hipocampus"), "row 2: region.*Did you mean 'hippocampus'"),
    "twice": (lambda r: pd.concat([r, r[:1]]), "again, as in row 2"),
    "another unit": (lambda r: r.assign(value=r["value"] / 1000), "multiplied by 1000"),
    "a column missing": (lambda r: r.drop(columns="region"), "region"),
    "a column that means nothing": (lambda r: r.assign(lowr=1), "column.*Did you mean 'lower'"),
    "one end": (lambda r: r.assign(lower=r["value"] * 0.9), "lower alone"),
    "upside down": (lambda r: r.assign(lower=r["value"] * 1.1, upper=r["value"]), "lower below upper"),
    "an interval in some rows": (
        lambda r: changed(r.assign(lower=r["value"] * 0.9, upper=r["value"] * 1.1), upper=""), "all rows or in none"),
}


@pytest.mark.parametrize("name", VOLUMES)
def test_a_wrong_table_is_refused_by_row(task, tmp_path, name):
    make, said = VOLUMES[name]
    rows = make(volume_rows(task, lambda last, true: last))
    rows = rows.replace("TRAINED", f"sub-{task.labels[task.train.ids[0]]}")
    with pytest.raises(NbkitError, match=said) as error:
        read_entrants(hand_in(tmp_path / "mine", rows), task)
    assert "mine/volumes.tsv" in str(error.value) or name == "a column missing"


def spoilt(image: Volume, **parts: object) -> Volume:
    """With other data or another affine."""
    return Volume(parts.get("data", image.data), parts.get("affine", image.affine))


def moved(affine: np.ndarray) -> np.ndarray:
    """The corner half a voxel farther on."""
    return affine + np.array([[0, 0, 0, 2.0]] + [[0] * 4] * 3)


IMAGES = {
    "another grid": (lambda i: spoilt(i, data=i.data[:, :-1]), "grid: expected the grid of the scans"),
    "another place": (lambda i: spoilt(i, affine=moved(i.affine)), "affine off by 2"),
    "no brain": (lambda i: spoilt(i, data=(i.data == 0).float()), "empty where the last scan"),
    "constant": (lambda i: spoilt(i, data=i.data * 0 + 1), "contrast"),
    "another scale": (lambda i: spoilt(i, data=i.data * 1000), "scale they came in"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_a_wrong_image_is_refused_by_file(task, tmp_path, name):
    make, said = IMAGES[name]
    folder = hand_in_images(tmp_path / "mine", task, still)
    path = sorted(folder.rglob("*.nii.gz"))[3]
    nifti.save_image(path, make(nifti.read_image(path)))
    with pytest.raises(NbkitError, match=said) as error:
        read_entrants(folder, task)
    assert path.name in str(error.value)


def test_an_image_that_is_not_finite_is_refused_by_file(task, tmp_path):
    folder = hand_in_images(tmp_path / "mine", task, still)
    path = sorted(folder.rglob("*.nii.gz"))[0]
    import nibabel

    image = nibabel.load(path)
    values = image.get_fdata().astype(np.float32)
    values[5, 5, 5] = np.nan
    nibabel.save(nibabel.Nifti1Image(values, image.affine), path)
    with pytest.raises(NbkitError, match="1 NaN or infinite") as error:
        read_entrants(folder, task)
    assert path.name in str(error.value)


NAMES = {
    "nobody": ("sub-HC0", "sub-HC77", "subject"), "no age": ("predictedAge66p5", "predicted", "desc"),
    "another age": ("Age66p5", "Age67", "age: expected an age of wanted.tsv"),
    "another session": ("ses-62", "ses-63", "session: expected ses-62"),
    "no name": ("_T1w.nii.gz", "_T1w_final.nii.gz", "a name such as"),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_name_is_refused(task, tmp_path, name):
    old, new, said = NAMES[name]
    folder = hand_in_images(tmp_path / "mine", task, still)
    path = next(p for p in sorted(folder.rglob("*Age66p5*.nii.gz")) if old in p.as_posix() or "sub-HC" in old)
    place = path.as_posix().replace(path.as_posix().split("/sub-")[1].split("/")[0], old[4:]) if "sub-" in old else ""
    target = type(path)((place or path.as_posix()).replace(old, new))
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    with pytest.raises(NbkitError, match=said):
        read_entrants(folder, task)


def test_a_sidecar_that_says_another_age_is_refused(task, tmp_path):
    folder = hand_in_images(tmp_path / "mine", task, still)
    path = next(folder.rglob("*Age66p5_T1w.nii.gz"))
    path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps({"PredictedAge": 70.25}))
    with pytest.raises(NbkitError, match="PredictedAge: expected 66.5, as in its name, found 70.25"):
        read_entrants(folder, task)


def test_all_faults_are_told_at_once(task, tmp_path):
    rows = volume_rows(task, lambda last, true: last).astype(object)
    rows.loc[0, "value"], rows.loc[3, "age"] = "nan", 12
    with pytest.raises(NbkitError) as error:
        read_entrants(hand_in(tmp_path / "mine", rows), task)
    assert "2:" in str(error.value) and "row 2" in str(error.value) and "row 5" in str(error.value)


def test_an_empty_folder_and_none_are_refused(task, tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(NbkitError, match="volumes.tsv, or images"):
        read_entrants(tmp_path / "mine", task)
    with pytest.raises(NbkitError, match="no such folder"):
        read_entrants(tmp_path / "other", task)


ENTRANTS = {
    "an unknown key": ({"nam": "x"}, "Did you mean 'name'"), "no words": ({"name": 3}, "name: expected words"),
    "a negative cost": ({"seconds_per_forecast": -1}, "not below zero"), "no object": ([1], "JSON object"),
    "long words": ({"name": "x" * 61}, "60 letters"),
}


@pytest.mark.parametrize("name", ENTRANTS)
def test_what_an_entrant_tells_of_itself_is_checked(task, tmp_path, name):
    told, said = ENTRANTS[name]
    folder = hand_in(tmp_path / "mine", volume_rows(task, lambda last, true: last))
    (folder / "entrant.json").write_text(json.dumps(told))
    with pytest.raises(NbkitError, match=said):
        read_entrants(folder, task)


def test_names_ages_and_what_is_left_out(task, tmp_path):
    rows = volume_rows(task, lambda last, true: last, half_width=0.1)
    rows["subject"] = rows["subject"].str.removeprefix("sub-")
    rows["age"] = rows["age"] + 0.004
    folder = hand_in(tmp_path / "mine", rows[rows["subject"] != rows["subject"].iloc[0]])
    (folder / "entrant.json").write_text(json.dumps({"name": "Mine", "hardware": "a phone"}))
    (entrant,) = read_entrants(folder, task)
    assert entrant.name == "Mine" and entrant.cost == {"hardware": "a phone"} and entrant.sure
    assert entrant.lacking(task.asked(), "hippocampus") == [k for k in task.asked() if k[0] == rows["subject"].iloc[0]]
    assert read_entrants(folder, task, taken=["Mine"])[0].name == "Mine (mine)"
    assert set(entrant.volumes["age"]) == {66.5, 70.25}


def test_a_folder_of_an_export_holds_a_system_each(task, tmp_path):
    folder = hand_in_images(tmp_path / "ours", task, still, system="brlp")
    hand_in_images(folder, task, still, system="no_pt")
    assert sorted(e.name for e in read_entrants(folder, task)) == ["Brlp", "NoPt"]
    hand_in(folder, volume_rows(task, lambda last, true: last))
    with pytest.raises(NbkitError, match="a folder of its own"):
        read_entrants(folder, task)


@pytest.mark.parametrize("name", ["reach", "no change", "truth", "$x$", "_hidden"])
def test_nobody_takes_the_name_of_what_stands_on_the_page(task, tmp_path, name):
    folder = hand_in(tmp_path / "mine", volume_rows(task, lambda last, true: last))
    (folder / "entrant.json").write_text(json.dumps({"name": name}))
    (entrant,) = read_entrants(folder, task, taken=["reach", "no change", "truth"])
    assert entrant.name != name and "$" not in entrant.name and not entrant.name.startswith("_")
