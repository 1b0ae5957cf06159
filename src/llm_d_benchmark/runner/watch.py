"""Reasons to end a run early: the server under test died, or nothing succeeds any more."""

from __future__ import annotations

import asyncio

import psutil

from ..domain.endpoint import Endpoint
from ..domain.errors import TargetError
from ..domain.events import Event, EventType

POLL_S = 0.5


class FailureStreak:
    """Notices when for ``limit_s`` seconds requests end only in failures.

    A dead server answers a closed loop with thousands of refused connections a second; going on measures nothing.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._bad_s = 0.0
        self._classes: dict[str, int] = {}
        self.tripped = asyncio.Event()

    def __call__(self, event: Event) -> None:
        if event.type is not EventType.INTERVAL:
            return
        data = event.data
        if data.get("succeeded", 0) or data.get("chunks", 0):
            self._bad_s, self._classes = 0.0, {}
        elif data.get("failed", 0):
            self._bad_s += (data["end"] - data["start"]) / 1e9
            for name, n in data.get("errors", {}).items():
                self._classes[name] = self._classes.get(name, 0) + n
        if self._bad_s >= self._limit_s:
            self.tripped.set()

    def error(self) -> TargetError:
        classes = ", ".join(f"{n} {name}" for name, n in sorted(self._classes.items()))
        return TargetError(
            f"nothing but failures for {self._bad_s:.0f} s ({classes}); the run was ended early",
            advice="look at the server's log; spec.benchmark.give_up sets how long to go on",
        )


async def watch_target(endpoint: Endpoint, streak: FailureStreak) -> TargetError:
    """Return the reason once the run should end early; wait forever while all is well."""
    while True:
        if endpoint.pid is not None and not _alive(endpoint.pid):
            return TargetError(
                "the server under test ended during the run",
                advice="its log is in the run folder under logs/; what was measured before is kept",
            )
        if streak.tripped.is_set():
            return streak.error()
        await asyncio.sleep(POLL_S)


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
