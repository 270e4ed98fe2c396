"""The task "pet": the mean image is the control, people held are at no distance, what is missing is filled and told."""

from __future__ import annotations

import numpy as np
import pytest

from nbkit.benchmark.pet import Pet
from nbkit.benchmark.small_page import write_small_page
from nbkit.benchmark.tasks import rules
from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort
from nbkit.core.volume import Volume
from nbkit.data import nifti
from tests.papers.pet_dcgan.pet_heads import head_slices


@pytest.fixture
def task(monkeypatch):
    table = head_slices(8, size=32, views=("axial", "coronal"))
    train = [name for k, name in enumerate(table.subjects) if k % 2]
    split = table.select(subjects=train), table.select(subjects=set(table.subjects) - set(train))
    monkeypatch.setattr(Pet, "split", split)
    people = Cohort("heads", (), "embedded", {"data_hash": "abc", "licence": "CC0", "attribution": "Somebody"})
    return Pet(people, rules("pet"), "embedded", "smoke", 7)


def hand_in(root, task, images, *, most=99):
    """As many as wanted of ``images(stage, plane)``, in [−1, 1]."""
    for (stage, plane), count in task.asked.items():
        chosen = images(stage, plane)
        for k in range(min(count, most)):
            place = root / f"stage-{stage}" / f"{plane[0]}{k}.nii.gz"
            nifti.save_image(place, task._volume(task.split[0].suvr(chosen[k % len(chosen)]), plane))
    return root


def mean_image(task):
    return lambda stage, plane: task._at(task.split[0], stage, plane).images.mean(dim=0, keepdim=True)


def test_laws_of_samples(task, tmp_path):
    held = hand_in(tmp_path / "held", task, lambda stage, plane: task._at(task.split[1], stage, plane).images)
    mean = hand_in(tmp_path / "mean", task, mean_image(task))
    few = hand_in(tmp_path / "few", task, mean_image(task), most=1)
    found = task.judge([task.read(folder) for folder in (held, mean, few)])
    rows = found.frame.set_index(["system", "subject"])["value"].sort_index()
    assert rows["held"].max() < 1e-2 < rows["mean image"].min()
    for name in ("mean", "few"):
        assert np.allclose(rows[name], rows["mean image"], atol=1e-3)
    assert found.ranks["system"].iloc[0] == "held"
    assert len(found.forgotten) == 1 and found.forgotten[0].startswith("few: 18 images too few")
    text = write_small_page(tmp_path / "page.html", found).read_text()
    assert task.rules.hash in text and "Fréchet" in text and "18 images too few" in text


def test_what_is_written_are_training_people_alone_and_is_read_back(task, tmp_path):
    assert task.write(tmp_path / "task") == "12 training people, 24 images asked for"
    names = [path.name for path in (tmp_path / "task").glob("stage-*/*.nii.gz")]
    assert len(names) == 24 and not any(held in name for held in task.split[1].subjects for name in names)
    name, images = task.read(tmp_path / "task")
    assert name == "task" and set(images) == set(task.asked)
    stage, plane = next(iter(task.asked))
    assert np.allclose(images[stage, plane], task._at(task.split[0], stage, plane).images, atol=1e-5)


def test_too_many_another_grid_and_another_stage_are_refused(task, tmp_path):
    folder = hand_in(tmp_path / "mine", task, mean_image(task))
    path = folder / "stage-CN" / "axial0.nii.gz"
    (folder / "stage-CN" / "more.nii.gz").write_bytes(path.read_bytes())
    with pytest.raises(NbkitError, match="stage-CN, axial .* expected 4 images, found 5"):
        task.read(folder)
    (folder / "stage-CN" / "more.nii.gz").unlink()
    image = nifti.read_image(path)
    nifti.save_image(path, Volume(image.data, image.affine + np.diag([0, 0, 1.0, 0])))
    with pytest.raises(NbkitError, match="grid of a training slice"):
        task.read(folder)
    path.unlink()
    (folder / "stage-AD").rename(folder / "stage-FTD")
    with pytest.raises(NbkitError, match="stage: expected one of AD, CN, MCI"):
        task.read(folder)
