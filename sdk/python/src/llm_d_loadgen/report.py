"""What a stage tells the tool while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from .clock import now

FLUSH_S = 0.1
PROGRESS_S = 1.0
LAG_S = 0.010


class Report:
    """Collects what is to be told, and tells it in batches. ``chunks``: content chunks since the last progress."""

    def __init__(self, say: Callable[..., None]) -> None:
        self._say = say
        self._sent: list[tuple[int, int]] = []
        self._rows: list[Any] = []
        self.chunks = 0
        self._lags: list[int] = []

    def sent(self, request_id: int, at: int) -> None:
        self._sent.append((request_id, at))

    def row(self, row: Any) -> None:
        self._rows.append(row)

    def flush(self) -> None:
        if self._sent:
            sent, self._sent = self._sent, []
            self._say("sent", requests=[r for r, _ in sent], times=[t for _, t in sent])
        if self._rows:
            rows, self._rows = self._rows, []
            self._say("records", rows=rows)

    def progress(self) -> None:
        lags, self._lags = sorted(self._lags), []
        chunks, self.chunks = self.chunks, 0
        lag = None
        if lags:
            levels = {f"p{q}_us": lags[len(lags) * q // 100] / 1e3 for q in (50, 99)}
            lag = {**levels, "max_us": lags[-1] / 1e3, "ticks": len(lags)}
        self._say("progress", chunks=chunks, lag=lag)

    async def run(self) -> None:
        """Every 10 ms see how late the loop is, every 100 ms tell of requests, every second of progress."""
        flush = progress = now()
        while True:
            due = now() + int(LAG_S * 1e9)
            await asyncio.sleep(LAG_S)
            at = now()
            self._lags.append(max(0, at - due))
            if at - flush >= FLUSH_S * 1e9:
                flush = at
                self.flush()
            if at - progress >= PROGRESS_S * 1e9:
                progress = at
                self.progress()
