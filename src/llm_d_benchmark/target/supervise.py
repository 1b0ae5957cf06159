"""Stands between the tool and a server it started, so that no server outlives the tool, however the tool ends.

Run as ``python -m llm_d_benchmark.target.supervise`` in a session of its own. Protocol: one JSON line on stdin
({command, env, cwd, log, hide, stop_timeout}); one on stdout ({pid} or {error}), a last one when the server is gone
({exit}); the end of stdin, or another parent, means stop. Linux hands orphans to this process (subreaper), so that
daemons the server started are found and stopped too. The server writes its log itself, unless there are secrets to
hide in it: then its output comes through here.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import IO, Any, TextIO

import psutil

from ..domain.redaction import LineRedactor

POLL_S = 0.1
COPY_S = 2.0
CHUNK = 65536
PR_SET_CHILD_SUBREAPER = 36


def main() -> int:
    parent = os.getppid()
    adopt_orphans()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _ignore)  # a handler, not SIG_IGN: the server starts with the default action
    with open(0, "rb", buffering=0, closefd=False) as stdin:  # unbuffered: select must see what follows
        line = stdin.readline()
    if not line:
        return 0
    request: dict[str, Any] = json.loads(line)
    hide: list[str] = request["hide"]
    with Path(request["log"]).open("ab") as log:
        try:
            server = subprocess.Popen(
                request["command"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if hide else log,
                stderr=subprocess.STDOUT,
                env=request["env"],
                cwd=request["cwd"],
            )
        except OSError as error:
            _say(sys.stdout, {"error": error.strerror or str(error)})
            return 0
    copying = Thread(target=copy, args=(server.stdout, Path(request["log"]), hide), daemon=True)
    if server.stdout is not None:
        copying.start()
    _say(sys.stdout, {"pid": server.pid})
    while server.poll() is None and os.getppid() == parent:
        if select.select([sys.stdin], [], [], POLL_S)[0]:
            break
    stop_all(server, float(request["stop_timeout"]))
    if server.stdout is not None:
        copying.join(COPY_S)  # a descendant that could not be found may hold its end open
    _say(sys.stdout, {"exit": server.returncode})
    return 0


def copy(output: IO[bytes], log: Path, hide: Sequence[str]) -> None:
    """What a server writes into its log, without secrets: at the end of a run would be too late where it is killed."""
    redactor, ended = LineRedactor(hide), False
    with log.open("ab", buffering=0) as file:
        while not ended:
            data = os.read(output.fileno(), CHUNK)
            ended = not data
            with suppress(OSError):  # the disk is full: it is read on, or the server would wait for ever
                file.write(redactor.end() if ended else redactor.feed(data))


def adopt_orphans() -> None:
    """Make this process the parent of descendants whose own parent ends (Linux; elsewhere nothing happens)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def stop_all(server: subprocess.Popen[bytes], timeout_s: float) -> None:
    """SIGTERM to every descendant, SIGKILL to those left after ``timeout_s``, until none is left."""
    _signal(_living(), signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    while _living() and time.monotonic() < deadline:
        server.poll()
        time.sleep(0.02)
    while left := _living():
        _signal(left, signal.SIGKILL)
        server.poll()
        time.sleep(0.02)
    server.wait()


def _living() -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if _alive(p)]


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue


def _say(stream: TextIO, message: dict[str, Any]) -> None:
    try:
        stream.write(json.dumps(message) + "\n")
        stream.flush()
    except OSError:
        return  # the tool is gone; the server still has to be stopped


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Only the end of stdin stops a server: Ctrl-C on the terminal is the tool's to handle."""


if __name__ == "__main__":
    sys.exit(main())
