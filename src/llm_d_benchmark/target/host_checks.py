"""Checks of the machine that the load comes from."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from ..config.model import BenchmarkConfig
from ..domain.events import Finding, Severity
from .local_model import EXTRA, missing_modules

HostCheck = Callable[[BenchmarkConfig], list[Finding]]
CLOCK_S = 0.3
CLOCK_STEP_S = 0.001
TIME_ERROR = 5
OWN_FILES = 128
ENOUGH_MEMORY = 2**30
ENOUGH_DISK = 2**30


def clock(config: BenchmarkConfig) -> list[Finding]:
    """Whether the wall clock keeps step with the monotonic one, and is synchronised."""
    before = time.time() - time.monotonic()
    time.sleep(CLOCK_S)
    drift = abs(time.time() - time.monotonic() - before)
    if drift > CLOCK_STEP_S:
        return [_warn("clock", f"the clock was set by {drift * 1000:.1f} ms while it was watched", "let it settle")]
    if synchronised() is False:
        return [
            _warn(
                "clock",
                "the clock is steady but not synchronised (NTP)",
                "enable chrony or systemd-timesyncd; it matters for runs on several machines, not for latencies",
            )
        ]
    return [_ok("clock", "the clock is steady" + (" and synchronised" if synchronised() else ""))]


def synchronised() -> bool | None:
    """The kernel's word on clock synchronisation; None where it gives none."""
    if sys.platform != "linux":
        return None
    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))  # all zero: reads, sets nothing
    return None if state < 0 else bool(state != TIME_ERROR)


def cores(config: BenchmarkConfig) -> list[Finding]:
    """Cores for the client, besides those of a server on the same machine."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if count > 1:
        return [_ok("cores", f"{count} cores")]
    return [
        _warn(
            "cores",
            "there is one core only: a server on this machine and the client disturb each other",
            "measure from another machine, or give this one a second core",
        )
    ]


def open_files(config: BenchmarkConfig) -> list[Finding]:
    """The open-file limit against the connections that the configuration asks for."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = planned_concurrency(config) + OWN_FILES
    if soft in (resource.RLIM_INFINITY, -1) or soft >= needed:
        return [_ok("open_files", f"{soft} files may be open, {needed} are needed")]
    more = hard == resource.RLIM_INFINITY or hard >= needed
    return [
        Finding(
            "open_files",
            Severity.WARNING if more else Severity.ERROR,
            f"only {soft} files may be open, {needed} are needed for the planned concurrency",
            f"ulimit -n {needed}" if more else f"have the administrator raise the hard limit of {hard}",
        )
    ]


def planned_concurrency(config: BenchmarkConfig) -> int:
    """The greatest number of connections a load generator or one of its stages is bounded by."""
    loads = [g.config for g in config.spec.benchmark.load_generators]
    bounds = [c for load in loads for c in (load.concurrency, *(s.concurrency for s in load.stages))]
    bounds += [int(s.max) for s in (load.sweep for load in loads) if s and s.max and s.over == "concurrency"]
    return max((b for b in bounds if b is not None), default=1)


def memory(config: BenchmarkConfig) -> list[Finding]:
    """Memory that is free now."""
    free = psutil.virtual_memory().available
    text = f"{free / 2**30:.1f} GiB of memory are free"
    if free >= ENOUGH_MEMORY:
        return [_ok("memory", text)]
    return [_warn("memory", text, "the client takes up to 600 MB, the local model 600 MB more; close something")]


def disk(config: BenchmarkConfig) -> list[Finding]:
    """Whether results can be written here (incomplete data sets)."""
    here = Path.cwd()
    free = shutil.disk_usage(here).free
    if not os.access(here, os.W_OK):
        return [_warn("disk", "the current folder cannot be written", "choose another for results with --output")]
    if free < ENOUGH_DISK:
        return [_warn("disk", f"only {free / 2**20:,.0f} MiB are free on disk here", "choose another --output")]
    return [_ok("disk", f"{free / 2**30:,.0f} GiB are free on disk here")]


def local_extra(config: BenchmarkConfig) -> list[Finding]:
    """Whether the [local] extra is installed."""
    if missing := missing_modules():
        return [Finding("local_extra", Severity.INFO, f"--target local needs {', '.join(missing)}", EXTRA)]
    return [_ok("local_extra", "--target local can run a small model on this machine")]


HOST_CHECKS: tuple[HostCheck, ...] = (clock, cores, open_files, memory, disk, local_extra)


def _ok(code: str, message: str) -> Finding:
    return Finding(code, Severity.INFO, message)


def _warn(code: str, message: str, advice: str) -> Finding:
    return Finding(code, Severity.WARNING, message, advice)
