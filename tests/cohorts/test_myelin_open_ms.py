"""The myelin cohort on real heads, with small files of the same layout; and on the real ones when they are here."""

from __future__ import annotations

import hashlib
import os

import numpy as np
import pytest
import torch

from nbkit.cohorts import myelin_open_ms, noise_free
from nbkit.core.checks import NbkitError
from nbkit.core.files import Cache
from nbkit.core.volume import Volume
from nbkit.data import nifti
from nbkit.data.manifest import Manifest, ManifestFile, load_manifest
from nbkit.phantom.lesion_myelin import Rates
from nbkit.phantom.muse import ATLAS, PEOPLE
from nbkit.phantom.myelin_people import Person, myelin_parameters, roster
from nbkit.phantom.parameters import Parameters

P = myelin_parameters()
N = 40
AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
NAMES = [*P["muse.wm"], *P["muse.ventricles"], *P["muse.csf"], "Hippocampus", "Insula"]


def labels(seed: int) -> Volume:
    """Shells of fluid, GM, WM and ventricles, as codes of a small atlas, in a head of its own size."""
    axis = np.arange(N) - (N - 1) / 2
    radius = np.sqrt(sum(np.square(g) for g in np.meshgrid(axis, axis * 0.85, axis, indexing="ij")))
    out = 17 + 0.3 * seed
    code = {name: i + 1 for i, name in enumerate(NAMES)}
    values = np.select(
        [radius < 3, radius < 13, radius < out - 1, radius < out],
        [code["LateralVentricle"], code["Frontal_WM"], code["Hippocampus"], code["CortCSF"]], 0,
    )
    return Volume(torch.from_numpy(values.astype(np.int32)), AFFINE)


def mask(seed: int) -> Volume:
    draw, values = np.random.default_rng(seed), np.zeros((182, 218, 182), np.int32)
    for x, y, z in draw.integers([60, 70, 50], [120, 140, 100], (4, 3)):
        values[x:x + 12, y:y + 12, z:z + 12] = 1
    return Volume(torch.from_numpy(values), np.eye(4))


def publish(root, name: str, folder: str, written: dict[str, str], layout: dict[str, str]) -> Manifest:
    files = []
    for path in sorted(written):
        place = root / folder / path
        if isinstance(written[path], str):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(written[path])
        else:
            nifti.save_labels(place, written[path])
        files.append(ManifestFile(path=path, sha256=hashlib.sha256(place.read_bytes()).hexdigest()))
    return Manifest(name=name, title="t", access="open", licence=f"{name} licence", attribution=f"{name} credit",
                    folder=folder, layout=layout, files=tuple(files))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("mirror")


@pytest.fixture(scope="module")
def manifests(root):
    sexes = "FFFMMM"
    heads = {f"dlmuse/i{n}.nii.gz": labels(n) for n in range(len(sexes))}
    people = "MRID,Age,Sex\n" + "".join(f"i{n},60,{s}\n" for n, s in enumerate(sexes))
    atlas = "Index,Code,Name\n601,x,GM\n" + "".join(f"{i + 1},x,{name}\n" for i, name in enumerate(NAMES))
    anatomy = publish(root, "ixi_ageing", "ixi", {**heads, PEOPLE: people, ATLAS: atlas},
                      {"labels": "dlmuse/{subject}.nii.gz"})
    masks = publish(root, "myelin_open_ms", "ms", {f"p{n}.nii.gz": mask(n) for n in range(4)},
                    {"mask:lesions": "{subject}.nii.gz"})
    return {"manifest": masks, "anatomy": anatomy}


@pytest.fixture
def mirror(root, monkeypatch):
    monkeypatch.setenv("NBKIT_MIRROR", str(root))
    return root


@pytest.fixture
def five(monkeypatch):
    rates = Rates(0.5, 0.3, 0.2)
    people = [Person(f"ms0{i}", "FFMM"[i], 30.0 + i, "MS", 5.0, 9, rates, 2.0 if i else None) for i in range(4)]
    people.append(Person("hc01", "F", 29.0, "HC", 0.0, 0, Rates(0, 0, 0), None))
    monkeypatch.setattr(myelin_open_ms, "roster", lambda *_, **__: tuple(people))
    return people


@pytest.mark.slow
def test_real_heads_and_lesions_carry_a_simulated_cohort(mirror, five, manifests, tmp_path):
    cohort = myelin_open_ms.build("smoke", seed=7, cache=Cache(tmp_path), progress=False, **manifests)
    assert (cohort.name, cohort.access) == ("myelin_open_ms", "open")
    assert [len(s.scans) for s in cohort] == [1, 2, 2, 2, 1]
    for subject in cohort:
        scan = subject.baseline
        assert tuple(scan.images) == ("T1w", "MTR", "FA", "RD", "AD", "DVR")
        assert scan.mask("lesions").data.any() == (subject.diagnosis == "MS")
        assert scan.mask("ventricles").data.any() and scan.mask("gm").data.any()
        if subject.diagnosis == "MS":
            assert 1 < subject.covariates["t2_load_ml"] < 10 and 0 <= subject.covariates["edss"] <= 6.5
    still = noise_free(cohort, "DVR")
    assert len(still) == sum(len(s.scans) for s in cohort)
    scan = cohort.subjects[1].scans[1]
    residual = (scan.image("DVR").data - still[scan.subject, "t1"].data)[scan.mask("brain").data]
    assert abs(float(residual.mean())) < 4 * float(residual.std()) / residual.numel() ** 0.5
    provenance = cohort.provenance
    assert provenance["kind"] == "real anatomy and lesion shapes, simulated contrasts"
    assert "myelin_open_ms credit" in provenance["attribution"] and "ixi_ageing credit" in provenance["attribution"]
    assert "myelin_open_ms licence" in provenance["licence"] and "ixi_ageing licence" in provenance["licence"]
    assert str(mirror) not in str(provenance)


def test_nobody_is_used_twice_and_sexes_match(mirror, five, manifests):
    found = myelin_open_ms.find_sources(five, *manifests.values(), seed=7)
    heads = [source.labels.name for source in found.values()]
    assert len(set(heads)) == 5 and len({s.lesions for s in found.values()}) == 5
    assert found["hc01"].lesions is None and len(found["hc01"].hashes) == 1
    for person in five:
        assert (int(found[person.id].labels.name[1]) < 3) == (person.sex == "F")
    assert found == myelin_open_ms.find_sources(five, *manifests.values(), seed=7)
    others = (myelin_open_ms.find_sources(five, *manifests.values(), seed=s) for s in range(5))
    assert any(other != found for other in others)


def test_too_few_masks_or_heads_are_refused_with_the_command(mirror, five, manifests, monkeypatch, tmp_path):
    more = [*five, Person("ms05", "F", 30.0, "MS", 0, 0, five[0].rates, None)]
    with pytest.raises(NbkitError, match="at least 5 lesion masks, found 4 here.*nbkit data fetch myelin_open_ms"):
        myelin_open_ms.find_sources(more, *manifests.values(), seed=7)
    women = [*five, Person("hc02", "F", 30.0, "HC", 0, 0, five[0].rates, None)]
    with pytest.raises(NbkitError, match="more people of sex F"):
        myelin_open_ms.find_sources(women, *manifests.values(), seed=7)
    monkeypatch.setenv("NBKIT_MIRROR", str(tmp_path))
    monkeypatch.setenv("NBKIT_DATA", str(tmp_path))
    with pytest.raises(NbkitError, match="missing: sample_datasets.*nbkit data fetch ixi_ageing"):
        myelin_open_ms.build("smoke", seed=7, cache=Cache(tmp_path), **manifests)


def test_tissues_of_the_atlas(tmp_path):
    table = tmp_path / "rois.csv"
    table.write_text("Index,Code,Name\n601,x,GM\n" + "".join(f"{i + 1},x,{n}_L\n" for i, n in enumerate(NAMES)))
    codes = myelin_open_ms.tissue_codes(table, P)
    assert codes["gm"] == [NAMES.index("Hippocampus") + 1, NAMES.index("Insula") + 1]
    assert set(codes["ventricles"]) <= set(codes["csf"]) and 46 in codes["csf"] and 69 in codes["wm"]
    assert not set(codes["wm"]) & set(codes["csf"])
    wrong = Parameters({**P.entries, "muse.csf": {**P.entries["muse.csf"], "value": ["CortCFS"]}})
    with pytest.raises(NbkitError, match="Did you mean 'CortCSF'"):
        myelin_open_ms.tissue_codes(table, wrong)


@pytest.mark.skipif(not os.environ.get("NBKIT_MIRROR"), reason="set NBKIT_MIRROR to use the real files")
def test_real_lesions_come_to_lie_in_real_white_matter():
    anatomy, masks = load_manifest("ixi_ageing"), load_manifest("myelin_open_ms")
    if sum(bool(masks.find(f.path)) for f in masks.files) < 19 or not anatomy.find(PEOPLE):
        pytest.skip("too few of the files are in this mirror")
    people = [p for p in roster("smoke", seed=7, parameters=P)]
    sources = myelin_open_ms.find_sources(people, masks, anatomy, seed=7)
    files, codes = sources["ms01"], myelin_open_ms.tissue_codes(anatomy.locate(ATLAS), P)
    head = myelin_open_ms.real_head(files.labels, files.lesions, codes=codes, spacing=3.66, parameters=P)
    before = int((nifti.read_labels(files.lesions).data > 0).sum())
    assert 0.6 < int((head.lesions.data > 0).sum()) / before < 1.2
    litres = (head.tissues.data[:2].sum() * head.tissues.voxel_volume / 1e6).item()
    assert 0.9 < litres < 1.7
