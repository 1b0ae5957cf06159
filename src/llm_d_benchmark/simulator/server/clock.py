"""The model's time and the machine's."""

from __future__ import annotations

import time

monotonic_ns = time.monotonic_ns


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
