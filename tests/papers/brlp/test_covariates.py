"""What a network is told, with the scale it was told in."""

import json

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.papers.brlp.covariates import STAGES, Covariates, chosen_volumes, stage

VOLUMES = np.array([[2000.0, 40000.0], [3000.0, 20000.0], [4000.0, 30000.0]])
COVARIATES = Covariates.learned(("hippocampus", "lateral_ventricle"), VOLUMES)


def test_the_vector_in_closed_form():
    found = COVARIATES.vector(age=73.0, sex="F", diagnosis="LMCI", volumes=np.array([2500.0, 20000.0]))
    torch.testing.assert_close(found, torch.tensor([0.73, 0.0, 0.5, 0.25, 0.0]))
    assert len(found) == 3 + len(COVARIATES.regions)
    beyond = COVARIATES.vector(age=60.0, sex=None, diagnosis="AD", volumes=np.array([5000.0, 10000.0]))
    torch.testing.assert_close(beyond, torch.tensor([0.6, 0.5, 1.0, 1.5, -0.5]))


def test_stages():
    assert [stage(d) for d in ("CN", "SMC", "EMCI", "LMCI", "AD")] == ["CN", "CN", "MCI", "MCI", "AD"]
    assert all(stage(stage(d)) == stage(d) for d in STAGES)


def test_the_scale_goes_through_json():
    again = Covariates.from_constants(json.loads(json.dumps(COVARIATES.constants())), where="here")
    told = {"age": 70.0, "sex": "M", "diagnosis": "CN", "volumes": np.array([2345.6, 33333.3])}
    assert torch.equal(again.vector(**told), COVARIATES.vector(**told))
    with pytest.raises(NbkitError, match="here: covariates.*'high'"):
        Covariates.from_constants({"regions": [], "low": []}, where="here")


def test_regions_that_are_chosen():
    names = ("frontal", "parietal", "temporal", "occipital", "limbic", "amygdala")
    volumes = dict(zip(names, range(1, 7), strict=True))
    assert chosen_volumes(volumes, ("amygdala", "cortex"), where="x").tolist() == [6.0, 15.0]
    with pytest.raises(NbkitError, match="s1/a: region: .*found 'amygdal'. Did you mean 'amygdala'"):
        chosen_volumes(volumes, ("amygdal",), where="s1/a")


def test_bad_input_is_refused():
    with pytest.raises(NbkitError, match="sex: expected one of F, M, unknown, found 'male'"):
        COVARIATES.vector(age=70.0, sex="male", diagnosis="CN", volumes=VOLUMES[0])
    with pytest.raises(NbkitError, match="diagnosis.*Did you mean 'LMCI'"):
        COVARIATES.vector(age=70.0, sex="M", diagnosis="LMCY", volumes=VOLUMES[0])
    with pytest.raises(NbkitError, match=r"volumes: expected one per .*found shape \(3,\)"):
        COVARIATES.vector(age=70.0, sex="M", diagnosis="CN", volumes=np.ones(3))
