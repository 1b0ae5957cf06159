"""When the steps of a replica ended: every sequence's token times are slices of this one array."""

from __future__ import annotations

import numpy as np

from .api import FloatArray


class StepLog:
    """Ends of steps by number, from the oldest that is still needed."""

    def __init__(self, room: int = 4096) -> None:
        self._ends: FloatArray = np.empty(room)
        self._first = 0
        self.next = 0

    def append(self, ends: FloatArray) -> bool:
        """Add the next steps; False where there is no room for them."""
        place, steps = self.next - self._first, len(ends)
        if place + steps > len(self._ends):
            return False
        self._ends[place : place + steps] = ends
        self.next += steps
        return True

    def make_room(self, steps: int, oldest: int) -> None:
        """Forget what lies before step ``oldest``; grow where that is not enough."""
        kept = self._ends[oldest - self._first : self.next - self._first]
        room = len(self._ends)
        while 2 * (len(kept) + steps) > room:
            room *= 2
        ends = np.empty(room)
        ends[: len(kept)] = kept
        self._ends, self._first = ends, oldest

    def between(self, first: int, end: int) -> FloatArray:
        """Ends of the steps ``first`` to ``end - 1``, a copy."""
        return self._ends[first - self._first : end - self._first].copy()
