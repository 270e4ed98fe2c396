"""Addresses of users' classes: read, refused with the remedy, and known by what they are made of."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from nbkit.core import entered
from nbkit.core.checks import NbkitError

MODEL = "from helper import STEP\n\nclass Mine:\n    step = STEP\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """my_model.py, which imports helper.py beside it, and a file that it does not import."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [n for n in sys.modules if n == "helper" or n.startswith("entered_")]:
        del sys.modules[name]
    for name, text in {"my_model": MODEL, "helper": "STEP = 3\n", "other": "x = 1\n"}.items():
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


def test_a_class_is_loaded_from_a_file_with_what_lies_beside_it(folder):
    kind = entered.load("my_model.py:Mine")
    assert (kind.__name__, kind.step) == ("Mine", 3)
    assert entered.load(f"{folder}/my_model.py:Mine") is kind
    assert entered.absolute(" my_model.py:Mine, Offer") == f"{folder}/my_model.py:Mine,Offer"
    assert entered.addresses(" a.py:A , b.py:B,a.py:A,") == ["a.py:A", "b.py:B"] and entered.addresses("") == []


def test_the_digest_is_that_of_the_content_and_of_what_it_imports_from_its_folder(folder):
    first = entered.source_digest("my_model.py:Mine")
    (folder / "other.py").write_text("x = 2\n")
    elsewhere = folder / "moved"
    elsewhere.mkdir()
    for name in ("my_model.py", "helper.py"):
        (elsewhere / name).write_bytes((folder / name).read_bytes())
    assert entered.source_digest("my_model.py:Mine") == first == entered.source_digest("moved/my_model.py:Mine")
    (folder / "helper.py").write_text("STEP = 4\n")
    assert entered.source_digest("my_model.py:Mine") != first


def test_a_changed_file_is_another_class(folder):
    old = entered.load("my_model.py:Mine")
    (folder / "my_model.py").write_text("class Mine:\n    step = 5\n")
    assert (entered.load("my_model.py:Mine").step, old.step) == (5, 3)


BAD = {
    "my_modle.py:Mine": "no such file.*Did you mean 'my_model.py'",
    "my_model.py:Mime": "found Mine.*Did you mean 'Mine'",
    "my_model.py:STEP": "expected a class, found int",
    "my_model.txt:Mine": "FILE.py:CLASS.*MODEL=my_model.py:MyModel",
    "my_model.py:": "FILE.py:CLASS",
    "Mine": "expected one of .*Install the package that offers it",
}


@pytest.mark.parametrize(("address", "words"), BAD.items())
def test_what_is_no_class_is_refused_with_the_remedy(folder, address, words):
    with pytest.raises(NbkitError, match=words):
        entered.load(address)


@pytest.mark.parametrize(("text", "words"), {
    "class Mine\n": "SyntaxError.*Mend line 1 of broken.py",
    "x = 1\ny = 1 / 0\n": "ZeroDivisionError.*line 2 of broken.py",
    "import nowhere_to_be_found\n": "nowhere_to_be_found.*line 1 of broken.py", "raise SystemExit\n": "SystemExit",
}.items())
def test_a_file_that_cannot_be_imported_is_told_by_its_line(folder, text, words):
    (folder / "broken.py").write_text(text)
    with pytest.raises(NbkitError, match=words):
        entered.load("broken.py:Mine")


def test_an_installed_package_offers_a_class_by_name(folder, monkeypatch):
    package = folder / "their_package"
    package.mkdir()
    (package / "__init__.py").write_text("class Theirs:\n    pass\n")
    monkeypatch.syspath_prepend(folder)
    point = EntryPoint("theirs", "their_package:Theirs", entered.GROUP)
    monkeypatch.setattr(entered, "entry_points", lambda group: [point] if group == "nbkit.models" else [])
    assert entered.load("theirs").__name__ == "Theirs"
    before = entered.source_digest("theirs")
    (package / "more.py").write_text("x = 1\n")
    assert entered.source_digest("theirs") != before
    assert Path(entered.absolute("theirs")) == Path("theirs")
    with pytest.raises(NbkitError, match="Did you mean 'theirs'"):
        entered.load("their")
