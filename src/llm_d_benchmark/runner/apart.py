"""Work on an event loop of its own beside one that may be running already, as a notebook's is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from ..domain.errors import BenchmarkError, ExitCode

T = TypeVar("T")
LOOK_S = 0.2


def apart(work: Callable[[asyncio.Event], Coroutine[Any, Any, T]], folder: Callable[[T], Path | None]) -> T:
    """The result of ``work``, which runs on a thread.

    The first interrupt (Ctrl-C, a notebook's stop button) sets the event of ``work``, so that it ends early and keeps
    what it has; the second cancels it.

    Args:
        folder: where a result is kept.

    Raises:
        KeyboardInterrupt: it was interrupted; the message says where what it has is kept.
    """
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, asyncio.Task[T]]] = Future()

    async def main() -> T:
        stop = asyncio.Event()
        task = asyncio.create_task(work(stop))
        started.set_result((asyncio.get_running_loop(), stop, task))
        return await task

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(lambda: asyncio.run(main()))
        try:
            return _waited(done)
        except KeyboardInterrupt:
            loop, stop, task = started.result()
            _tell(loop, stop.set)
        try:
            kept = folder(_waited(done))
        except KeyboardInterrupt:
            _tell(loop, task.cancel)
            raise
        except BenchmarkError as error:
            if error.exit_code is not ExitCode.INTERRUPTED:
                raise
            raise KeyboardInterrupt(error.message) from None
    raise KeyboardInterrupt(f"stopped early; what was measured until then is in {kept}")


def _waited(done: Future[T]) -> T:
    """The result; an interrupt need not wake a thread that only waits."""
    while not wait([done], LOOK_S).done:
        pass
    return done.result()


def _tell(loop: asyncio.AbstractEventLoop, what: Callable[[], object]) -> None:
    with suppress(RuntimeError):  # it ended at this very moment
        loop.call_soon_threadsafe(what)
