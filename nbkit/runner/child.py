"""One notebook in one process.

The process ends with the notebook, so memory is given back; a kernel that is killed is told apart
from a cell that fails; and when the run itself is killed, kernel and process end too.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import nbformat
import papermill
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from nbkit.runner.ending import describe, hint, kills_for_memory


PATIENCE_S = 2.0
_stopping = threading.Lock()


class Kernel(AsyncKernelManager):
    """This very interpreter as kernel, whatever kernelspecs the user has installed; remembers how it ended."""

    running: Kernel | None = None

    @property
    def kernel_spec(self) -> KernelSpec:
        """A kernelspec made here, not looked up."""
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=ERROR"]
        return KernelSpec(argv=argv, display_name="Python 3", language="python")

    async def _async_is_alive(self) -> bool:
        Kernel.running = self
        if self.provisioner is None:
            return False
        code = await self.provisioner.poll()
        self.exit_code = code if code is not None else getattr(self, "exit_code", None)
        return code is None

    is_alive = _async_is_alive

    def kill(self) -> None:
        """End the kernel and its workers; by SIGTERM first, so that joblib's tracker of shared memory clears up."""
        pid = getattr(self.provisioner, "pid", None)
        if not pid:
            return
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGTERM)
            deadline = time.monotonic() + PATIENCE_S
            while time.monotonic() < deadline and not _reaped(pid):
                time.sleep(0.02)
            os.killpg(pid, signal.SIGKILL)


def _reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _stop(*_: object) -> None:
    if not _stopping.acquire(blocking=False):
        return  # whoever ends a whole group asks more than once
    try:
        if Kernel.running is not None:
            Kernel.running.kill()
    finally:
        os._exit(130)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.3)
    _stop()


def _guard(parent: int) -> None:
    """End with the run: on its request (SIGTERM) and on its death; what a terminal sends is the run's to handle."""
    signal.signal(signal.SIGTERM, _stop)
    for sent in (signal.SIGINT, signal.SIGHUP):
        signal.signal(sent, lambda *_: None)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _execute(job: dict[str, Any]) -> dict[str, Any]:
    before = kills_for_memory()
    try:
        papermill.execute_notebook(
            nbformat.read(job["notebook"], as_version=4), job["output"], job["parameters"], kernel_name="python3",
            language="python", cwd=job["cwd"], progress_bar={"desc": job["name"]} if job["progress"] else False,
            store_widget_state=False, kernel_manager_class=Kernel,
        )
    except PapermillExecutionError as error:
        lines = [line for line in str(error.evalue).strip().splitlines() if line][:3]
        message = " ".join(lines)[:4000] + hint(error.ename, str(error.evalue))
        return {"status": "failed", "where": f"cell {error.exec_count}: {error.ename}", "error": message}
    except (DeadKernelError, RuntimeError, OSError) as error:
        code = getattr(Kernel.running, "exit_code", None)
        if isinstance(error, DeadKernelError) or code is not None:
            return {"status": "failed", "error": describe(code, peak=_peak(), killed=kills_for_memory() > before)}
        message = str(error)[:4000] + hint("", str(error))
        return {"status": "failed", "where": type(error).__name__, "error": message}
    return {"status": "done", "error": ""}


def _peak() -> int:
    """The most memory the kernel had, bytes; known once it has ended."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(job_file: str) -> None:
    """Run the notebook that `job_file` describes and write how it went to the pipe it names."""
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    _guard(job["parent"])
    for name in ("papermill", "traitlets"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    result = _execute(job)
    with suppress(BrokenPipeError), open(job["result"], "w", encoding="utf-8") as pipe:
        json.dump(result | {"peak_bytes": _peak()}, pipe)
