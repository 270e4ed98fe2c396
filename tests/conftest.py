"""Every test runs without network, home folder or GPU, and the same way twice."""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# set before any test module is imported: libraries read these once
OWNER = "NBKIT_TESTS_SANDBOX" not in os.environ  # workers share the cache of the process that started them
SANDBOX = Path(os.environ.setdefault("NBKIT_TESTS_SANDBOX", tempfile.mkdtemp(prefix="nbkit-tests-") if OWNER else ""))
for _name, _folder in {"HOME": "home", "NBKIT_CACHE": "cache", "NBKIT_DATA": "data"}.items():
    (SANDBOX / _folder).mkdir(exist_ok=True)
    os.environ[_name] = str(SANDBOX / _folder)
for _name in [n for n in os.environ if n.startswith("XDG_")]:
    del os.environ[_name]
os.environ.update(DEVICE="cpu", MPLBACKEND="Agg")
# workers side by side (`make test`) share the cores; alone, torch has them all
if _workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):
    _threads = str(max(1, (os.cpu_count() or 1) // _workers))
    os.environ.update(OMP_NUM_THREADS=_threads, MKL_NUM_THREADS=_threads)

settings.register_profile("nbkit", deadline=None, derandomize=True, database=None)
settings.load_profile("nbkit")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first, so that a slip shows within seconds; one of several workers begins with the longest file."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: item.path.name != "test_smoke.py")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    """Leave nothing behind."""
    if OWNER:
        shutil.rmtree(SANDBOX, ignore_errors=True)


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("", "localhost")


@pytest.fixture(autouse=True, scope="session")
def no_network() -> None:
    """Refuse every connection that leaves this machine."""
    connect = socket.socket.connect

    def local_only(self: socket.socket, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_local(str(address[0])):
            raise ConnectionRefusedError(f"a test tried to reach {address[0]}: tests know no network")
        return connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", local_only)
        yield


@pytest.fixture
def nbkit(monkeypatch, capsys):
    """``nbkit("data", "list")`` runs a command; gives exit code, output and errors."""
    from nbkit import cli  # not before the variables above stand

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["nbkit", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return run
