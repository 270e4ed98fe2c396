"""The parameter file: every number has a unit and a source, none is taken by a wrong name."""

from __future__ import annotations

import pytest

from nbkit.core.checks import NbkitError
from nbkit.phantom.parameters import MS_PARAMETERS, Parameters, load_parameters


def test_every_number_has_its_source():
    parameters = load_parameters()
    assert len(parameters) > 80
    for name, entry in parameters.entries.items():
        assert entry["source"], name
        assert isinstance(entry["unit"], str), name


def test_numbers_are_found_by_name_and_group():
    parameters = load_parameters()
    assert parameters["tissue.wm.t1"] == 832
    assert parameters.section("tissue.csf") == {"t1": 4163, "t2": 1650, "pd": 1.0}
    assert parameters.groups("contrast") == ("T1w", "T2w", "PDw", "T1SE", "DIR", "FLAIR")


def test_unknown_names_are_refused_with_the_nearest():
    parameters = load_parameters()
    with pytest.raises(NbkitError, match="Did you mean 'tissue.wm.t1'"):
        parameters["tissue.wm.T1"]
    with pytest.raises(NbkitError, match="Did you mean 'contrast.FLAIR'"):
        parameters.section("contrast.FLARE")


def test_the_digest_follows_values_only():
    entries = {name: dict(entry) for name, entry in load_parameters().entries.items()}
    entries["tissue.wm.t1"]["source"] = "elsewhere"
    assert Parameters(entries).digest() == load_parameters().digest()
    entries["tissue.wm.t1"]["value"] = 833
    assert Parameters(entries).digest() != load_parameters().digest()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tissue.wm.t1 = { value = 832, unit = '' }", r"tissue.wm.t1: expected value, unit and source, found value"),
        ("[tissue.wm]\nt1 = 832", r"bad.toml: tissue.wm.t1: expected value, unit and source, found 832"),
    ],
)
def test_a_number_without_its_source_is_refused(tmp_path, text, message):
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(NbkitError, match=message):
        load_parameters(tmp_path / "bad.toml")


def test_the_file_is_part_of_the_package():
    assert MS_PARAMETERS.parent.name == "phantom"
