"""A one-shot timer for absolute monotonic times, finer than the event loop's millisecond."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable

_CLOCK_MONOTONIC = 1
_TFD_TIMER_ABSTIME = 1
_TFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC


class _Spec(ctypes.Structure):
    _fields_ = [(name, ctypes.c_long) for name in ("interval_s", "interval_ns", "value_s", "value_ns")]


class PreciseTimer:
    """Calls ``callback`` at the time last set. On Linux a timerfd; elsewhere the loop's timer, and the last
    millisecond by polling. Made and closed in the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._handle: asyncio.Handle | None = None
        self._fd: int | None = None
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_FLAGS)
            if self._fd < 0:
                raise OSError(ctypes.get_errno(), "timerfd_create")
            self._spec = _Spec()  # one for all settings: this is on hot paths
            self._pointer = ctypes.byref(self._spec)
            loop.add_reader(self._fd, self._fired)

    def set(self, at: int) -> None:
        """Fire at ``at`` (monotonic ns), at once where that has passed; replaces an earlier setting."""
        if self._fd is None:
            self._wait(at)
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
            return  # it was set anew between firing and now, and will fire again
        self._callback()

    def _wait(self, at: int) -> None:
        if self._handle is not None:
            self._handle.cancel()
        left = at - time.monotonic_ns()
        if left <= 0:
            self._handle = self._loop.call_soon(self._callback)
        elif left > 2_000_000:
            self._handle = self._loop.call_later(left / 1e9 - 0.0015, self._wait, at)
        else:
            self._handle = self._loop.call_soon(self._wait, at)
