"""The model's time and the machine's, and an alarm finer than the event loop's millisecond."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable

monotonic_ns = time.monotonic_ns
_CLOCK_MONOTONIC = 1
_TFD_TIMER_ABSTIME = 1


class Clock:
    """Model seconds since the clock was made, ``speed`` of them in each real second."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self._start = monotonic_ns()

    def model(self, wall: int) -> float:
        """Model seconds of a monotonic time in ns."""
        return (wall - self._start) / 1e9 * self.speed

    def wall(self, model: float) -> int:
        """Monotonic ns at which the model shows this time."""
        return self._start + round(model / self.speed * 1e9)


class _Spec(ctypes.Structure):
    _fields_ = [(name, ctypes.c_long) for name in ("interval_s", "interval_ns", "value_s", "value_ns")]


class Alarm:
    """Calls back at the monotonic time last set. On Linux by a timerfd; elsewhere by the loop's own timer."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._handle: asyncio.TimerHandle | None = None
        self._fd: int | None = None
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
            if self._fd < 0:
                raise OSError(ctypes.get_errno(), "timerfd_create")
            self._spec = _Spec()
            self._pointer = ctypes.byref(self._spec)
            loop.add_reader(self._fd, self._fired)

    def set(self, at: int) -> None:
        """Ring at ``at`` (monotonic ns), at once where that has passed; replaces an earlier setting."""
        if self._fd is None:
            if self._handle is not None:
                self._handle.cancel()
            self._handle = self._loop.call_later(max(0.0, (at - monotonic_ns()) / 1e9), self._callback)
            return
        self._spec.value_s, self._spec.value_ns = divmod(max(at, 1), 1_000_000_000)
        self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, self._pointer, None)

    def close(self) -> None:
        if self._fd is not None:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None
        if self._handle is not None:
            self._handle.cancel()

    def _fired(self) -> None:
        assert self._fd is not None
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # it was set anew between firing and now, and will ring again
        self._callback()
