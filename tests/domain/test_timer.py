"""The timer that paces open loops and simulated steps."""

from __future__ import annotations

import asyncio
import time

from llm_d_benchmark.domain.timer import PreciseTimer


async def test_it_fires_at_the_time_set_and_not_before() -> None:
    fired: list[int] = []
    timer = PreciseTimer(asyncio.get_running_loop(), lambda: fired.append(time.monotonic_ns()))
    at = time.monotonic_ns() + 30_000_000
    timer.set(at)
    await asyncio.sleep(0.015)
    assert fired == []
    await asyncio.sleep(0.05)
    assert len(fired) == 1
    assert fired[0] >= at
    timer.close()


async def test_setting_it_anew_when_it_has_just_fired_is_no_error() -> None:
    """The descriptor was ready, and is not any more when the loop comes to it."""
    fired: list[int] = []
    timer = PreciseTimer(asyncio.get_running_loop(), lambda: fired.append(time.monotonic_ns()))
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    timer.set(time.monotonic_ns())
    time.sleep(0.002)  # noqa: ASYNC251 - the loop must not run meanwhile
    asyncio.get_running_loop().call_soon(timer.set, time.monotonic_ns() + 20_000_000)
    asyncio.get_running_loop().call_soon(time.sleep, 0.001)
    await asyncio.sleep(0.05)
    assert errors == []
    assert len(fired) in (1, 2)
    timer._fired()  # nothing is due: as in the race
    assert errors == []
    timer.close()
