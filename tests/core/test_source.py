"""A digest sees the code a module runs, and no other."""

import ast
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from nbkit.core import source

SEE = "import sys; sys.path.insert(0, '.'); import nbkit.{0} as m; from nbkit.core.source import module_digest; " \
      "print(module_digest(m.__name__))"
FILES = {
    "nbkit/__init__.py": "", "nbkit/core/__init__.py": "", "nbkit/core/a.py": "A = 1\n",
    "nbkit/b.py": "from nbkit.core import a\n", "nbkit/c.py": "import nbkit.b\nfrom pathlib import Path\n",
    "nbkit/other.py": "X = 1\n",
}


@pytest.fixture
def package(tmp_path):
    """A small package named nbkit with the real module under test inside."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "nbkit/core/source.py").write_bytes(Path(source.__file__).read_bytes())
    return tmp_path


def digest(folder, module):
    done = subprocess.run([sys.executable, "-I", "-c", SEE.format(module)], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_change_three_imports_away_is_seen_and_an_unrelated_one_is_not(package):
    before = {m: digest(package, m) for m in ("b", "c", "other")}
    assert len(set(before.values())) == 3
    (package / "nbkit/core/a.py").write_text("A = 2\n")
    after = {m: digest(package, m) for m in ("b", "c", "other")}
    assert after["b"] != before["b"] and after["c"] != before["c"]
    assert after["other"] == before["other"]


def test_words_and_layout_do_not_count_but_every_constant_does(package):
    file = package / "nbkit/core/a.py"
    file.write_text('"""Says."""\n\ndef f(x):\n    """Says."""\n    return x + 1\nA = "a"\n')
    before = digest(package, "c")
    file.write_text('# why\n\ndef f(x):  # adds\n    return (x\n            + 1)\n\n\nA = "a"\n"""Of A."""\n')
    assert digest(package, "c") == before
    for other in ("def f(x):\n    return x + 2\nA = 'a'\n", "def f(x):\n    return x + 1\nA = 'b'\n"):
        file.write_text(other)
        assert digest(package, "c") != before


@pytest.mark.parametrize("name", ["core/shelf.py", "figures/marks.py"])
def test_what_only_keeps_or_draws_work_does_not_count_and_is_there(package, name):
    assert (source.ROOT / "nbkit" / name).is_file()
    folder, module = name.removesuffix(".py").split("/")
    (package / "nbkit/core/a.py").write_text(f"from nbkit.{folder} import {module}\nA = 1\n")
    file = package / "nbkit" / name
    file.parent.mkdir(exist_ok=True)
    (file.parent / "__init__.py").touch()
    file.write_text("B = 1\n")
    before = digest(package, "c")
    file.write_text("B = 2\n")
    assert digest(package, "c") == before


def test_the_place_of_the_clone_does_not_matter(package, tmp_path_factory):
    copy = tmp_path_factory.mktemp("elsewhere") / "clone"
    package.rename(copy)
    there = digest(copy, "c")
    copy.rename(package)
    assert digest(package, "c") == there


def test_only_one_thread_parses_at_a_time(monkeypatch):
    seen = []
    watched = SimpleNamespace(**vars(ast))
    watched.parse = lambda text: seen.append(source._PARSING.locked()) or ast.parse(text)
    monkeypatch.setattr(source, "ast", watched)
    source._parsed.cache_clear()  # it reads each text once
    source.module_digest.__wrapped__("nbkit.core.source")
    assert seen and all(seen) and not source._PARSING.locked()
