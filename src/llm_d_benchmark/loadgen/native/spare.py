"""A worker process, started: a module so light that a command can start one while the rest of it is imported."""

from __future__ import annotations

import socket
import subprocess
import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """A worker that waits for its setup on the other end of ``ours``. It ends by itself when that is closed."""

    process: subprocess.Popen[bytes]
    ours: socket.socket


def start_worker() -> WorkerProcess:
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, "-m", "llm_d_benchmark.loadgen.native.worker", str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    theirs.close()
    return WorkerProcess(process, ours)
