"""One source of versions: pyproject.toml; the lock, environment.yml and the imports of the code agree with it."""

from __future__ import annotations

import importlib.metadata as metadata
import re
import tomllib
from collections.abc import Iterable, Iterator

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from nbkit.data import brain_network
from tests.sources import ROOT, sources

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
# run by people and by the runner's kernels, or found by MONAI; never imported here
TOOLS = {"einops", "ipykernel", "jupyterlab"}
IMPORT_NAMES = {
    "scikit-learn": "sklearn", "scikit-image": "skimage", "pyyaml": "yaml", "ipython": "IPython", "pillow": "PIL",
    "simpleitk": "SimpleITK",
}
# torch names its own CUDA packages, and only where there is a CUDA build
CUDA = re.compile(r"(nvidia|triton|cuda)")


def pins(lines: Iterable[str]) -> dict[str, str]:
    """``name==version`` lines as a mapping; anything else is refused."""
    found = [re.fullmatch(r"([A-Za-z0-9._-]+)==([^\s+]+)", line.strip()) for line in lines if line[:1] not in ("#", "")]
    assert all(found), "every line must be name==version, without a local build tag"
    return {canonicalize_name(match[1]): match[2] for match in found}


def requirements(lines: Iterable[str]) -> dict[str, Requirement]:
    """Requirements by canonical name."""
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


LOCK = pins((ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines())
DIRECT = requirements(PROJECT["dependencies"])
TEST = requirements(EXTRAS["test"])


def installed_tree(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Name and version of `names` and all they need, as installed here."""
    seen, todo = set(), list(names)
    while todo:
        name = canonicalize_name(todo.pop())
        if name in seen or CUDA.match(name):
            continue
        seen.add(name)
        found = metadata.distribution(name)
        yield name, found.version
        needs = map(Requirement, found.requires or ())
        todo += [r.name for r in needs if r.marker is None or r.marker.evaluate({"extra": ""})]


def import_names(requirements: Iterable[str]) -> set[str]:
    """What one writes after ``import``."""
    return {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in requirements}


def third_party(folder: str) -> set[str]:
    """Top-level names of the libraries imported below `folder`."""
    return {f.top for source in sources(folder) for f in source.imports if f.third_party}


def test_the_lock_pins_every_direct_dependency_within_its_bounds():
    for extra in (PROJECT["dependencies"], *EXTRAS.values()):
        for name, requirement in requirements(extra).items():
            assert LOCK.get(name) and requirement.specifier.contains(LOCK[name]), requirement


def test_what_is_installed_is_what_the_lock_says():
    wrong = {n: (v, LOCK.get(n)) for n, v in installed_tree([*DIRECT, *TEST]) if Version(v).public != LOCK.get(n)}
    assert wrong == {}, "run `make env`, or `make lock` if the versions were raised on purpose"


def test_the_lock_names_no_cuda_package_and_no_place():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert [name for name in LOCK if CUDA.match(name)] == []
    assert not re.search(r"://| @ |--", text)


def test_environment_yml_holds_the_same_set():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    *packages, pip = conda["dependencies"]
    assert pins(pip["pip"]) == {name: LOCK[name] for name in (*DIRECT, *TEST)}
    python = next(p.removeprefix("python=") for p in packages if p.startswith("python="))
    assert python in Requirement(f"python{PROJECT['requires-python']}").specifier


def test_torch_is_pinned_exactly():
    assert str(DIRECT["torch"].specifier) == f"=={LOCK['torch']}"


def test_nbkit_imports_what_it_declares_and_nothing_else():
    optional = import_names(requirements(EXTRAS["viewer"]))
    assert third_party("nbkit") - optional == import_names(set(DIRECT) - TOOLS)


def test_make_env_brings_the_weights_that_brains_are_found_with_and_nothing_they_declare():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"\nDEEPBET := {brain_network.PACKAGE}=={brain_network.VERSION}\n" in makefile
    recipe = makefile.split("$(STAMP): pyproject.toml")[1].split("\n\n")[0]
    assert "--no-deps $(DEEPBET)" in recipe
    assert brain_network.PACKAGE not in {*LOCK, *DIRECT}


def test_the_tests_import_only_what_they_declare():
    declared = import_names({**DIRECT, **TEST, **requirements(EXTRAS["bench"])})
    assert third_party("tests") - declared == set()


@pytest.mark.parametrize("line", ["numpy>=2", "torch==2.13.0+cpu", "numpy @ file:///x", "-e ."])
def test_a_loose_line_in_the_lock_is_refused(line):
    with pytest.raises(AssertionError, match="name==version"):
        pins(["scipy==1.17.1", line])
