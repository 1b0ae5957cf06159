"""Ends a tool and everything it started; run as a process, it does so when its parent is gone, however that ended.

``python -m llm_d_benchmark.loadgen.external.guard PID MARK GRACE_S``: PID leads the tool's session, MARK is in the
environment of whatever it starts. The end of stdin means: end them.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress

import psutil

MARK = "LLMD_BENCHMARK_TOOL"
"""Variable that every process of one tool inherits, by which those are found that left its session."""
POLL_S = 0.05


def family(leader: int, mark: str) -> list[psutil.Process]:
    """Living processes of a tool: those of its session, and daemons by the mark (a program that renames itself may
    have overwritten it)."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            ours = os.getsid(process.pid) == leader or process.environ().get(MARK) == mark
            if ours and alive(process):
                found.append(process)
    return found


def alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def end_family(leader: int, mark: str, grace_s: float) -> None:
    """SIGTERM to every process of a tool, and SIGKILL to what is left after a grace time."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        members = family(leader, mark)
        if not members:
            return
        for member in members:
            with suppress(psutil.NoSuchProcess):
                member.send_signal(number)
        deadline = time.monotonic() + grace_s
        while any(alive(member) for member in members) and time.monotonic() < deadline:
            time.sleep(POLL_S)


def main() -> None:
    leader, mark, grace_s = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends after its parent, not with it
    sys.stdin.read()
    end_family(leader, mark, grace_s)


if __name__ == "__main__":
    main()
