"""Ctrl-C and SIGTERM: the first ends the load and keeps what was measured, the second gives up at once."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import typer

from ..config.layers import LoadedConfig
from ..runner.bus import Observer
from ..runner.options import RunOptions, RunOutcome
from ..runner.run import run

T = TypeVar("T")


def run_until_signal(loaded: LoadedConfig, options: RunOptions, observers: Sequence[Observer]) -> RunOutcome:
    """Run, ending early on a signal.

    Raises:
        KeyboardInterrupt: a second signal came; cleanup was done, the analysis was not finished.
    """
    return until_signal(lambda stop: run(loaded, options, observers=observers, stop=stop))


def until_signal(work: Callable[[asyncio.Event], Coroutine[Any, Any, T]]) -> T:
    """The result of ``work``, whose event is set by the first signal.

    Raises:
        KeyboardInterrupt: a second signal came.
    """
    gc.freeze()
    gc.enable()
    return asyncio.run(_watched(work))


async def _watched(work: Callable[[asyncio.Event], Coroutine[Any, Any, T]]) -> T:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    task = asyncio.create_task(work(stop))

    def on_signal() -> None:
        if stop.is_set():
            task.cancel()
            return
        typer.echo("\nstopping: keeping what was measured (once more to give up)", err=True)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    try:
        return await task
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
