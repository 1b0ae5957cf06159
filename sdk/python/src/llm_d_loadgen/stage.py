"""One stage: releases sessions when they are due, keeps the concurrency, and accounts for every request."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from .call import Call, CallFailed
from .clock import now
from .report import Report
from .types import Hello, Session, Stage

WINDOW = 512
"""Sessions in store: at 1000 requests a second, half a second's worth."""
BLOCK = 64
"""Sessions asked for at once."""
PAUSE_S = 0.05
"""A place whose connection was refused is free again after this: a server that is gone must not busy the client."""


class StageLoad:
    """Runs a stage; every method is called on the event loop."""

    def __init__(
        self, stage: Stage, hello: Hello, send: Callable[[Call], Awaitable[None]], say: Callable[..., None]
    ) -> None:
        self.stage = stage
        self._hello, self._send, self._say = hello, send, say
        self._store: deque[Session] = deque()
        self._last = False
        self._news = asyncio.Event()
        self._begin: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._stopped = asyncio.Event()
        self._free: asyncio.Queue[int] | None = None if stage.concurrency is None else asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._to_follow = 0  # sessions under way with turns still to send
        self._followed = asyncio.Event()
        self._over = asyncio.Event()
        self._bug: BaseException | None = None
        self._report = Report(say)

    def connections(self) -> int:
        """How many to have open before the load: one a stream, or a second's worth of an open loop, at most 256."""
        return min(self.stage.concurrency or 256, max(1, int(self.stage.rate)) if self.stage.rate else 256)

    # what the tool says

    def feed(self, sessions: Sequence[Session], *, last: bool) -> None:
        self._store.extend(sessions)
        self._last = self._last or last
        self._news.set()

    def start(self, at: int) -> None:
        if not self._begin.done():
            self._begin.set_result(at)

    def stop(self) -> None:
        self._stopped.set()
        self._begin.cancel()

    # the stage

    async def run(self) -> None:
        number = self.stage.stage
        self._say("credit", stage=number, sessions=WINDOW)
        self._say("stage_ready", stage=number)
        try:
            start = await self._begin
        except asyncio.CancelledError:
            if not self._stopped.is_set():
                raise
            self._say("stage_end", stage=number, load_end=now(), end=now(), reason="interrupted")
            return
        reporting = asyncio.create_task(self._report.run())
        reason = await self._load(start)
        load_end = now()
        self._over.set()
        await self._drain()
        reporting.cancel()
        self._report.flush()
        self._report.progress()
        if self._bug is not None:
            raise self._bug
        self._say("stage_end", stage=number, load_end=load_end, end=now(), reason=reason)

    async def _load(self, start: int) -> str:
        """Release until the end of the load; why it ended."""
        releasing = asyncio.create_task(self._release(start))
        stopped = asyncio.create_task(self._stopped.wait())
        places = asyncio.create_task(self._places(start))
        length = self.stage.load_s
        left = None if length is None else max(0.0, (start - now()) / 1e9 + length)
        await asyncio.wait({releasing, stopped}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        reason = "interrupted" if stopped.done() else "exhausted" if releasing.done() else "duration"
        if reason == "exhausted":
            releasing.result()
        for task in (releasing, stopped, places):
            task.cancel()
        return reason

    async def _places(self, start: int) -> None:
        """The streams of a closed loop or of a capped open one, started over ``ramp_s``."""
        if self._free is None:
            return
        count = self.stage.concurrency or 0
        ramp = 0 if self.stage.open_loop else int(self.stage.ramp_s * 1e9)
        for k in range(count):
            at = start + ramp * k // count
            if ramp and k:
                await _until(at)
            self._free.put_nowait(at)

    async def _release(self, start: int) -> None:
        length = self.stage.load_s
        taken = 0
        await _until(start)
        while (session := await self._next()) is not None:
            due = None if session.offset_ns is None else start + session.offset_ns
            if due is not None:
                if length is not None and due >= start + int(length * 1e9):
                    await self._over.wait()  # the rest lies behind the end of the load
                await _until(due)
            free = 0 if self._free is None else await self._free.get()
            taken += 1
            if taken % BLOCK == 0:
                self._say("credit", stage=self.stage.stage, sessions=BLOCK)
            if len(session.turns) > 1:
                self._to_follow += 1
            task = asyncio.create_task(self._session(session, max(due or 0, free, start)))
            self._tasks.add(task)
            task.add_done_callback(self._ended)
        while self._to_follow:
            self._followed.clear()
            await self._followed.wait()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._bug = task.exception()
            self._stopped.set()

    async def _next(self) -> Session | None:
        while not self._store:
            if self._last:
                return None
            self._news.clear()
            await self._news.wait()
        return self._store.popleft()

    async def _drain(self) -> None:
        """Wait for what is in flight, for ``drain_s`` at most, then cancel it; at once when stopped."""
        if self._tasks and not self._stopped.is_set():
            stopped = asyncio.create_task(self._stopped.wait())
            done = asyncio.create_task(asyncio.wait(set(self._tasks)))
            await asyncio.wait({done, stopped}, timeout=self.stage.drain_s, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            done.cancel()
        for task in set(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _session(self, session: Session, ready: int) -> None:
        history: list[Any] = []
        pause = 0.0
        following = len(session.turns) > 1
        try:
            for number, turn in enumerate(session.turns):
                if number:
                    ready = now() + int(turn.think_s * 1e9)
                    if await self._over_before(ready):
                        return
                if following and number + 1 == len(session.turns):
                    following = self._no_more_turns()
                call = Call(self._hello, self.stage, session, number, ready=ready, history=history, report=self._report)
                failure = await self._one(call)
                if failure is not None:
                    pause = PAUSE_S if failure.error_class in ("connect", "tls") else 0.0
                    return
                history += self._said(call)
        finally:
            if following:
                self._no_more_turns()
            if self._free is not None:
                self._free_later(pause)

    async def _over_before(self, ready: int) -> bool:
        """Think until ``ready``; whether the load was over before that."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), max(0.0, (ready - now()) / 1e9))
        return self._over.is_set()

    def _no_more_turns(self) -> bool:
        self._to_follow -= 1
        self._followed.set()
        return False

    def _free_later(self, pause: float) -> None:
        assert self._free is not None
        if pause:
            asyncio.get_running_loop().call_later(pause, self._free_later, 0.0)
        else:
            self._free.put_nowait(now())

    async def _one(self, call: Call) -> CallFailed | None:
        """Send one request and report it; its failure."""
        try:
            await call.within_limits(self._send)
        except CallFailed as failure:
            self._report.row(call.row("failed", now(), failure))
            return failure
        except BaseException:  # cancelled, or a bug, which _ended sees
            self._report.row(call.row("cancelled", now()))
            raise
        self._report.row(call.row("ok", now()))
        return None

    def _said(self, call: Call) -> list[Any]:
        """What a turn adds to its conversation."""
        if self.stage.endpoint == "chat":
            return [*(call.turn.messages or []), {"role": "assistant", "content": call.answer()}]
        return [(call.turn.text or "") + call.answer()]


async def _until(at: int) -> None:
    """Sleep until this epoch time."""
    left = at - now()
    if left > 0:
        await asyncio.sleep(left / 1e9)
