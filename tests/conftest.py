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
SANDBOX = Path(tempfile.mkdtemp(prefix="nbkit-tests-"))
for _name, _folder in {"HOME": "home", "NBKIT_CACHE": "cache", "NBKIT_DATA": "data"}.items():
    (SANDBOX / _folder).mkdir()
    os.environ[_name] = str(SANDBOX / _folder)
for _name in [n for n in os.environ if n.startswith("XDG_")]:
    del os.environ[_name]
os.environ.update(DEVICE="cpu", MPLBACKEND="Agg")

settings.register_profile("nbkit", deadline=None, derandomize=True, database=None)
settings.load_profile("nbkit")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first, so that a slip shows within seconds."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


def pytest_unconfigure() -> None:
    """Leave nothing behind."""
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
