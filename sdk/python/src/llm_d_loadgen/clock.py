"""Epoch time that never jumps."""

import time

_OFFSET = time.time_ns() - time.monotonic_ns()


def now() -> int:
    """Epoch nanoseconds: the monotonic clock, set once."""
    return time.monotonic_ns() + _OFFSET
