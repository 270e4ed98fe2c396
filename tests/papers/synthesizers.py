"""What every voxel-by-voxel synthesizer must do, called by the test of each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import ModalitySynthesizer, Subject
from nbkit.core.volume import Volume


def predict(model, subject: Subject) -> torch.Tensor:
    """The prediction for one subject, (1, X, Y, Z)."""
    scan = subject.baseline
    return model.synthesize(scan.images, mask=scan.mask("brain")).data


def check_output(model, subject: Subject) -> None:
    """On the scan's grid, float32, 0 outside the mask, blind to what lies outside, target not read."""
    scan = subject.baseline
    brain = scan.mask("brain")
    assert isinstance(model, ModalitySynthesizer)
    out = model.synthesize(scan.images, mask=brain)
    out.check_grid(scan.image("FLAIR"), "test")
    assert out.data.dtype == torch.float32
    assert not out.data[~brain.data].any() and "FLAIR" in out.history[-1]
    wild = {n: v.with_data(v.data.where(brain.data, torch.tensor(-7e4))) for n, v in scan.images.items()}
    del wild["FLAIR"]
    assert torch.equal(model.synthesize(wild, mask=brain).data, out.data)


def check_round_trip(model, subject: Subject, folder: Path) -> None:
    """Saved and loaded, it predicts the same bits and knows whom it was trained on."""
    model.save(folder / "model")
    again = type(model).load(folder / "model")
    assert torch.equal(predict(again, subject), predict(model, subject))
    assert again.config == model.config
    assert again.trained_on == model.trained_on != ""


def check_refusals(model, subject: Subject, folder: Path, *, tensor: str) -> None:
    """Missing and foreign tensors, unknown settings, an unfitted model, missing contrasts and foreign grids."""
    for change, words in (({"extra": torch.zeros(1)}, "extra"), ({tensor: None}, f"{tensor}.*no such tensor")):
        model.save(folder / "model")
        file = folder / "model" / "weights.safetensors"
        tensors = {**load_file(file), **change}
        save_file({k: v for k, v in tensors.items() if v is not None}, file)
        with pytest.raises(NbkitError, match=words):
            type(model).load(folder / "model")
    model.save(folder / "model")
    file = folder / "model" / "model.json"
    record = json.loads(file.read_text())
    record["config"]["targte"] = "FLAIR"
    file.write_text(json.dumps(record))
    with pytest.raises(NbkitError, match="Did you mean 'target'"):
        type(model).load(folder / "model")
    scan = subject.baseline
    with pytest.raises(NbkitError, match="expected a fitted model"):
        type(model)(model.config).synthesize(scan.images, mask=scan.mask("brain"))
    with pytest.raises(NbkitError, match="expected 'T2w', found only T1w"):
        model.synthesize({"T1w": scan.image("T1w")}, mask=scan.mask("brain"))
    moved = {n: Volume(v.data) for n, v in scan.images.items()}
    with pytest.raises(NbkitError, match="T1w and mask: expected the same affine"):
        model.synthesize(moved, mask=scan.mask("brain"))
    with pytest.raises(NbkitError, match="target 'FLAIR'"):
        type(model.config)(inputs=("T1w", "FLAIR"))
