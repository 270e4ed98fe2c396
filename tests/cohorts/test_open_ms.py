"""open_ms on small files of the same layout: subsets, refusals, the cache; and on the real scans when they are here."""

from __future__ import annotations

import hashlib
import os
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch

from nbkit import cli
from nbkit.cohorts import open_ms
from nbkit.core.checks import NbkitError
from nbkit.core.files import Cache
from nbkit.core.volume import Volume
from nbkit.data import nifti
from nbkit.data.manifest import Manifest, ManifestFile, load_manifest

N = 36
ROLES = (*open_ms.CONTRASTS, "mask:lesions")
LEVELS = {"T1w": (200, 620, 900), "T1wCE": (210, 640, 900), "T2w": (900, 450, 300), "FLAIR": (60, 200, 160)}
SICK = {"T1w": 620, "T1wCE": 640, "T2w": 520, "FLAIR": 230}


def patient_volumes(seed: int) -> dict[str, Volume]:
    """Shells of CSF, WM, GM and CSF with one lesion of 3×3×3 voxels, on a background of 0."""
    draw = np.random.default_rng(seed)
    axis = np.arange(N) - (N - 1) / 2
    radius = np.sqrt(sum(np.square(g) for g in np.meshgrid(axis, axis, axis, indexing="ij")))
    tissue = np.select([radius < 3, radius < 11, radius < 14, radius < 16], [0, 2, 1, 0], -1)
    lesion = np.zeros(radius.shape, bool)
    lesion[17:20, 17:20, 24:27] = True
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = -18
    volumes = {}
    for contrast, levels in LEVELS.items():
        image = np.where(lesion, SICK[contrast], np.take(levels, np.maximum(tissue, 0)))
        image = (image * draw.normal(1, 0.03, image.shape)) * (tissue >= 0)
        volumes[contrast] = Volume(torch.from_numpy(image.astype(np.float32)), affine)
    return volumes | {"mask:lesions": Volume(torch.from_numpy(lesion), affine)}


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("NBKIT_MIRROR", str(tmp_path))
    return tmp_path / "ms"


def publish(data, patients: dict[str, dict[str, Volume]]) -> Manifest:
    """Write the patients' files and a manifest of what was written."""
    files = []
    for patient, volumes in patients.items():
        for role, volume in volumes.items():
            path = data / patient / f"{role.replace(':', '_')}.nii.gz"
            nifti.save_image(path, volume.with_data(volume.data.float()))
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            files.append(ManifestFile(path=str(path.relative_to(data)), sha256=digest))
    return Manifest(
        name="open_ms", title="t", access="open", licence="CC-BY", attribution="Lesjak", folder="ms",
        layout={role: f"{{subject}}/{role.replace(':', '_')}.nii.gz" for role in ROLES}, files=tuple(files),
    )


@pytest.fixture
def three(data):
    return publish(data, {f"p{n}": patient_volumes(n) for n in range(3)})


def test_every_patient_has_images_and_masks_that_belong_together(three, tmp_path):
    cohort = open_ms.build("paper", cache=Cache(tmp_path / "c"), manifest=three)
    assert cohort.ids == ("p0", "p1", "p2") and cohort.access == "open"
    for subject in cohort:
        scan = subject.baseline
        assert (subject.sex, scan.age, subject.diagnosis) == (None, None, "MS")
        assert tuple(scan.images) == open_ms.CONTRASTS and tuple(scan.masks) == open_ms.MASKS
        masks = {name: scan.mask(name).data for name in scan.masks}
        assert torch.equal(masks["wm"].int() + masks["gm"].int() + masks["csf"].int(), masks["brain"].int())
        assert int(masks["lesions"].sum()) == 27 and (masks["wm"] | ~masks["lesions"]).all()
        assert masks["nawm"].any() and not (masks["nawm"] & masks["lesions"]).any()
        assert subject.covariates["lesion_ml"] == pytest.approx(0.027)
    truth = patient_volumes(1)["FLAIR"]
    torch.testing.assert_close(cohort.subject("p1").baseline.image("FLAIR").data, truth.data)


def test_coarser_profiles_average_blocks_and_keep_masks_apart(three, tmp_path):
    scan = open_ms.build("laptop", cache=Cache(tmp_path / "c"), manifest=three).subject("p0").baseline
    assert scan.image("T1w").shape == (18, 18, 18) and scan.image("T1w").spacing == (2.0, 2.0, 2.0)
    np.testing.assert_allclose(scan.image("T1w").affine[:3, 3], -17.5)
    block = patient_volumes(0)["T1w"].data[0, 8:10, 20:22, 14:16].mean()
    assert float(scan.image("T1w").data[0, 4, 10, 7]) == pytest.approx(float(block), rel=1e-5)
    total = sum(scan.mask(name).data.int() for name in ("wm", "gm", "csf"))
    assert torch.equal(total, scan.mask("brain").data.int())
    assert not (scan.mask("nawm").data & scan.mask("lesions").data).any()


def test_the_subset_present_is_said_and_only_masks_do_not_count(data, three, tmp_path, caplog):
    for contrast in open_ms.CONTRASTS:
        (data / "p1" / f"{contrast}.nii.gz").unlink()
    with caplog.at_level("INFO"):
        cohort = open_ms.build("smoke", cache=Cache(tmp_path / "c"), manifest=three)
    assert cohort.ids == ("p0", "p2")
    assert cohort.provenance["present"] == "2 of 3 patients present"
    assert "2 of 3 patients present" in caplog.text
    assert cohort.provenance["attribution"] == "Lesjak"
    assert str(tmp_path) not in str(cohort.provenance)


def test_the_data_hash_follows_the_files_and_the_second_time_comes_from_the_cache(data, three, tmp_path, monkeypatch):
    cache = Cache(tmp_path / "c")
    first = open_ms.build("smoke", cache=cache, manifest=three)
    with monkeypatch.context() as patch:
        patch.setattr(open_ms, "_prepare", lambda *_: pytest.fail("prepared again"))
        again = open_ms.build("smoke", cache=cache, manifest=three)
    assert again.provenance == first.provenance
    other = open_ms.build("smoke", cache=cache, manifest=publish(data, {"p0": patient_volumes(9)}))
    assert other.provenance["data_hash"] != first.provenance["data_hash"]


def test_two_jobs_give_what_one_gives(three, tmp_path):
    one = open_ms.build("smoke", cache=Cache(tmp_path / "one"), manifest=three)
    two = open_ms.build("smoke", cache=Cache(tmp_path / "two"), manifest=three, n_jobs=2)
    assert two.ids == one.ids
    for a, b in zip(one, two, strict=True):
        assert all(torch.equal(a.baseline.mask(m).data, b.baseline.mask(m).data) for m in open_ms.MASKS)


def test_a_missing_contrast_is_refused_by_patient_and_file(data, three, tmp_path):
    (data / "p1" / "T2w.nii.gz").unlink()
    with pytest.raises(NbkitError, match=r"open_ms p1: expected all its files, found missing: p1/T2w\.nii\.gz"):
        open_ms.build("smoke", cache=Cache(tmp_path / "c"), manifest=three)


def test_a_truncated_file_is_refused_by_name_and_left_alone(data, three, tmp_path):
    file = data / "p2" / "FLAIR.nii.gz"
    half = file.read_bytes()[:1000]
    file.write_bytes(half)
    with pytest.raises(NbkitError, match=r"p2/FLAIR\.nii\.gz.*wrong hash"):
        open_ms.build("smoke", cache=Cache(tmp_path / "c"), manifest=three)
    assert file.read_bytes() == half


def moved(volumes):
    volumes["T2w"] = Volume(volumes["T2w"].data, volumes["T2w"].affine + np.eye(4))


def cropped(volumes):
    volumes["mask:lesions"] = volumes["mask:lesions"].crop((slice(0, N), slice(0, N), slice(0, N - 1)))


def blurred(volumes):
    volumes["mask:lesions"] = volumes["mask:lesions"].with_data(volumes["mask:lesions"].data * 0.5)


def constant(volumes):
    volumes["T1w"] = volumes["T1w"].with_data(torch.full_like(volumes["T1w"].data, 5.0))


def head_on(volumes):
    for contrast in open_ms.CONTRASTS:
        volumes[contrast] = volumes[contrast].with_data(volumes[contrast].data + 1)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(moved, r"p0: .*T2w\.nii\.gz against its FLAIR.*same affine"),
     (cropped, r"p0: .*mask_lesions\.nii\.gz against its FLAIR.*same shape"),
     (blurred, r"p0/mask_lesions\.nii\.gz: expected whole label"),
     (constant, r"p0/T1w\.nii\.gz: .*constant image"),
     (head_on, r"p0: brain mask: expected a skull-stripped")],
)
def test_bad_scans_are_refused_by_patient_and_file_and_nothing_is_cached(data, tmp_path, spoil, message):
    volumes = patient_volumes(0)
    spoil(volumes)
    manifest = publish(data, {"p0": volumes})
    with pytest.raises(NbkitError, match=message):
        open_ms.build("smoke", cache=Cache(tmp_path / "c"), manifest=manifest)
    assert not list((tmp_path / "c").rglob("*.safetensors"))


def test_without_any_patient_the_remedy_is_named(tmp_path, three, monkeypatch):
    monkeypatch.delenv("NBKIT_MIRROR")
    monkeypatch.setenv("NBKIT_DATA", str(tmp_path / "empty"))
    with pytest.raises(NbkitError, match="at least one patient.*nbkit data fetch open_ms.*NBKIT_MIRROR"):
        open_ms.build("smoke", manifest=three)


def test_an_unknown_profile_is_refused(three):
    with pytest.raises(NbkitError, match="Did you mean 'laptop'"):
        open_ms.build("labtop", manifest=three)


class Quiet(SimpleHTTPRequestHandler):
    """A folder, without a word."""

    def log_message(self, *args):
        pass


@pytest.mark.slow
def test_one_command_brings_all_thirty_and_they_can_be_opened(tmp_path, monkeypatch, capsys):
    """Made-up bytes under the published names, from a server on this machine; then the network is gone."""
    published, served = load_manifest("open_ms"), tmp_path / "server" / "open_ms_data"
    shown = [patient_volumes(k) for k in range(2)]
    for number, roles in enumerate(published.subjects().values()):
        for role, path in roles.items():
            volume = shown[number % 2][role]
            nifti.save_image(served / path, volume.with_data(volume.data.float()))
    (served / "cross_sectional" / "LICENSE.txt").write_text("CC-BY")
    files = [
        ManifestFile(path=path, sha256=hashlib.sha256((served / path).read_bytes()).hexdigest())
        for path in published.by_path
    ]
    monkeypatch.delenv("NBKIT_MIRROR", raising=False)
    monkeypatch.setenv("NBKIT_DATA", str(tmp_path / "data"))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "server")) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        near = published.model_copy(update={
            "files": tuple(files), "base_url": f"http://127.0.0.1:{server.server_port}/open_ms_data/"})
        near.__dict__.pop("by_path", None)
        for module in (cli, open_ms):
            monkeypatch.setattr(module, "load_manifest", lambda name: near)
        monkeypatch.setattr("sys.argv", ["nbkit", "data", "fetch", "open_ms"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        server.shutdown()
    assert not ended.value.code and "151 files here and verified" in capsys.readouterr().out
    cohort = open_ms.build("smoke", cache=Cache(tmp_path / "c"), progress=False)
    assert cohort.ids == tuple(f"patient{n:02d}" for n in range(1, 31))
    assert cohort.provenance["present"] == "30 of 30 patients present"


# What follows reads the real scans; expected values: an independent measurement on these files

@pytest.fixture(scope="module")
def real(tmp_path_factory):
    if not os.environ.get("NBKIT_MIRROR"):
        pytest.skip("set NBKIT_MIRROR to read the real scans")
    cohort = open_ms.build("paper", cache=Cache(tmp_path_factory.mktemp("open_ms")))
    if not {"patient07", "patient19"} <= set(cohort.ids):
        pytest.skip("patients 07 and 19 are not in this mirror")
    return cohort


def test_the_real_subset_is_said(real):
    assert real.provenance["present"] == f"{len(real)} of 30 patients present"
    assert "Lesjak" in real.provenance["attribution"] and real.provenance["licence"] == "CC-BY"


@pytest.mark.parametrize(
    ("patient", "lesion_t1", "lesion_t2", "lesion_flair"),
    [("patient07", 0.80, 1.60, 1.41), ("patient19", 0.69, 1.97, 1.35)],
)
def test_lesion_contrast_agrees_with_an_independent_measurement(real, patient, lesion_t1, lesion_t2, lesion_flair):
    scan = real.subject(patient).baseline
    nawm, lesions = scan.mask("nawm").data, scan.mask("lesions").data
    for contrast, expected in (("T1w", lesion_t1), ("T2w", lesion_t2), ("FLAIR", lesion_flair)):
        image = scan.image(contrast).data
        assert float(image[lesions].median() / image[nawm].median()) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("patient", ["patient07", "patient19"])
def test_volumes_are_those_of_an_adult_brain(real, patient):
    masks = real.subject(patient).baseline.masks
    ml = {name: float(masks[name].data.sum()) / 1000 for name in masks}
    assert 1000 < ml["brain"] < 1600
    assert 0.35 < ml["wm"] / ml["brain"] < 0.55
    assert 0.25 < ml["gm"] / ml["brain"] < 0.5
    assert ml["nawm"] > 0.4 * ml["wm"]
