"""A JupyterLab of its own, and an installed Chromium without a screen that looks at it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from playwright.sync_api import Page, sync_playwright

from tests.sources import ROOT

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
STARTED = "is running at"
PATIENCE = 90.0
"""Seconds that a server may take to start; browser waits have their own."""


def find_browser() -> str | None:
    """Path of an installed Chromium: NBKIT_BROWSER, else the first of the usual names."""
    return os.environ.get("NBKIT_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)


@contextmanager
def jupyterlab(folder: Path, settings: Path) -> Iterator[str]:
    """Serve `folder`; yields the address of its lab. Configuration, kernels' files and log go into `settings`."""
    port, token = _free_port(), secrets.token_hex(16)
    options = {
        "ServerApp.port": port, "ServerApp.port_retries": 0, "ServerApp.root_dir": folder,
        "ServerApp.open_browser": False, "ServerApp.allow_root": True, "IdentityProvider.token": token,
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
        "LabApp.extension_manager": "readonly", "LabApp.user_settings_dir": settings / "user",
        "LabApp.workspaces_dir": settings / "workspaces",
    }
    command = [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items())]
    _no_questions(settings / "user")
    with open(settings / "jupyterlab.log", "w", encoding="utf-8") as log:
        server = subprocess.Popen(
            command, env=_environment(settings), cwd=folder, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        reader = threading.Thread(target=log.writelines, args=(server.stdout,))
        try:
            _until_started(server, log)
            reader.start()
            yield f"http://127.0.0.1:{port}/lab/tree/{{path}}?token={token}"
        finally:
            server.terminate()
            server.wait()
            if reader.ident:
                reader.join()
            server.stdout.close()


@contextmanager
def opened(address: str, *, browser: str, screenshot: Path) -> Iterator[Page]:
    """A page at `address`; what it looks like at the end, or when the test fails, is kept in `screenshot`."""
    with sync_playwright() as play:
        # a container's root may not make sandboxes, and its /dev/shm may be tiny
        window = play.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-dev-shm-usage"])
        try:
            page = window.new_page(viewport={"width": 1400, "height": 1100})
            page.goto(address)
            try:
                yield page
            finally:
                page.screenshot(path=screenshot)
        finally:
            window.close()


def _until_started(server: subprocess.Popen, log: IO[str]) -> None:
    watchdog = threading.Timer(PATIENCE, server.kill)
    watchdog.start()
    for line in server.stdout:
        log.write(line)
        if STARTED in line:
            watchdog.cancel()
            return
    watchdog.cancel()
    log.flush()
    raise RuntimeError(f"JupyterLab did not start:\n{Path(log.name).read_text(encoding='utf-8')[-2000:]}")


def _no_questions(user: Path) -> None:
    """Settings of a user who wants no news."""
    wish = user / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    wish.parent.mkdir(parents=True)
    wish.write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}), encoding="utf-8")


def _environment(settings: Path) -> dict[str, str]:
    """Nothing of the user's; the nbkit that runs in kernels is the one under test."""
    places = {f"JUPYTER_{n}_DIR": str(settings / n.lower()) for n in ("CONFIG", "DATA", "RUNTIME")}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, **places, "IPYTHONDIR": str(settings / "ipython"), "PYTHONPATH": path}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
