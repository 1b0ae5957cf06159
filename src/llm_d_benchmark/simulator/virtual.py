"""Simulated time: an event loop, and a replica on it."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any

from .api import EngineRequest, FloatArray
from .engine import Engine
from .progress import Progress

Timer = list[Any]
"""A call that waits for its time: [time, rank, order, call, arguments]; ``call`` is None once it was cancelled."""


class VirtualLoop:
    """Calls things at simulated times, in order; at equal times steps end first, then in the order of their setting.

    Attributes:
        now: seconds since the loop was made.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: list[Timer] = []
        self._order = count()
        self._paused = False

    def at(self, time: float, call: Callable[..., None], *args: object, rank: int = 1) -> Timer:
        """Call at ``time``, or now where that has passed."""
        timer: Timer = [time if time > self.now else self.now, rank, next(self._order), call, args]
        heapq.heappush(self._timers, timer)
        return timer

    @staticmethod
    def cancel(timer: Timer) -> None:
        # It waits for its time all the same, but must not keep a request alive so long.
        timer[3], timer[4] = None, ()

    def pause(self) -> None:
        """Let ``run`` return after the present call."""
        self._paused = True

    def run(self, calls: int) -> bool:
        """Make at most so many calls, going on in time; False when there was nothing left to do."""
        timers = self._timers
        self._paused = False
        while timers and calls and not self._paused:
            time, _, _, call, args = heapq.heappop(timers)
            if call is not None:
                self.now = time
                call(*args)
                calls -= 1
        return bool(timers) or self._paused


class VirtualReplica:
    """An engine on a loop; what a router asks is answered as of now.

    Args:
        finished: told of each request that is done, when it is.
    """

    def __init__(self, engine: Engine, loop: VirtualLoop, finished: Callable[[Progress], None]) -> None:
        self.engine = engine
        self._loop = loop
        self._finished = finished
        self._ends: FloatArray | None = None  # of the planned steps; None while idle
        self._steps = 0  # that will be made of them
        self._timer: Timer = []
        self._aborted: list[int] = []

    @property
    def waiting(self) -> int:
        return self.engine.waiting

    @property
    def running(self) -> int:
        return self.engine.running

    def kv_usage(self) -> float:
        self._reach()
        return self.engine.kv_usage()

    def cached_prefix(self, request: EngineRequest) -> int:
        self._reach()
        return self.engine.cached_prefix(request)

    def generated(self) -> int:
        """Tokens made until now."""
        return self.engine.generated_tokens + self.engine.batch_size * self._passed()

    def submit(self, request: EngineRequest) -> Progress:
        """A request arrives; it counts from the next step on.

        Raises:
            ConfigError: it is longer than the whole KV cache.
        """
        progress = self.engine.submit(request, self._loop.now)
        if self._ends is None:
            self._begin()
        else:
            self._shorten()
        return progress

    def times(self, progress: Progress) -> FloatArray:
        """When a request that has not ended got its tokens until now."""
        return self.engine.token_times(progress, self._passed())

    def abort(self, progress: Progress) -> None:
        """A request is given up; it is gone when the step under way has ended."""
        self._aborted.append(progress.request.request_id)
        self._shorten()

    def _passed(self) -> int:
        """Planned steps that have ended by now."""
        return 0 if self._ends is None else int(self._ends[: self._steps].searchsorted(self._loop.now, "right"))

    def _begun(self) -> int:
        """Planned steps that have begun, the one under way included."""
        if self._steps == 1 or self._ends is None:
            return 1
        begun = int(self._ends.searchsorted(self._loop.now)) + 1
        return begun if begun < self._steps else self._steps

    def _reach(self) -> None:
        """Bring the KV cache to the step under way."""
        if self._steps > 1 and self._ends is not None:
            self.engine.reach(self._begun())

    def _shorten(self) -> None:
        """Something has changed: of the planned steps only those up to the one under way are made."""
        if self._ends is None or self._steps == 1:
            return
        begun = self._begun()
        if begun < self._steps:
            self._steps = begun
            self._loop.cancel(self._timer)
            self._timer = self._loop.at(float(self._ends[begun - 1]), self._end, rank=0)

    def _begin(self) -> None:
        self._ends = self.engine.begin(self._loop.now)
        if self._ends is not None:
            self._steps = len(self._ends)
            self._timer = self._loop.at(float(self._ends[-1]), self._end, rank=0)

    def _end(self) -> None:
        """The next step begins before anybody hears of the last: whoever answers it is too late for that one."""
        _, finished = self.engine.end(self._steps)
        if self._aborted:
            for request_id in self._aborted:
                self.engine.abort(request_id)
            self._aborted.clear()
        self._begin()
        for progress in finished:
            self._finished(progress)
