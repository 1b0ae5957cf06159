"""Live progress of a run on stderr: a table on a terminal, flushed lines elsewhere, JSON lines, or nothing."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol, Self, TextIO

from ..domain.events import Event, EventType
from .format import count, digits, duration
from .tally import LAG_WARNING_MS, Tally

if TYPE_CHECKING:
    from rich.console import RenderableType

Mode = Literal["auto", "bar", "plain", "json", "none"]
PLAIN_EVERY_S = 5.0
REFRESH_PER_S = 4


class Progress(Protocol):
    """An observer of a run's events that shows them. Use it as a context manager around the run."""

    def plan(self, stages: int | None, seconds: float | None) -> None:
        """What is to come: number of stages and seconds of load in all, None where they are not known."""
        ...

    def __call__(self, event: Event) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def make_progress(mode: str = "auto", stream: TextIO | None = None) -> Progress:
    """The progress display ``mode`` asks for.

    Args:
        mode: auto (bar on a terminal, else plain), bar, plain, json or none.
        stream: where to write; stderr by default.

    Raises:
        ValueError: ``mode`` is none of these.
    """
    out = stream if stream is not None else sys.stderr
    if mode == "auto":
        mode = "bar" if out.isatty() else "plain"
    kinds: dict[str, Callable[[TextIO], Progress]] = {"bar": _Bar, "plain": _Plain, "json": _JsonLines, "none": _Silent}
    if mode not in kinds:
        raise ValueError(f"'{mode}' is no progress mode; choose auto, bar, plain, json or none")
    return kinds[mode](out)


class _Silent:
    """Shows nothing; what the other displays have in common."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._tally = Tally()

    def plan(self, stages: int | None, seconds: float | None) -> None:
        self._tally.plan(stages, seconds)

    def __call__(self, event: Event) -> None:
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class _JsonLines(_Silent):
    """Every event as one line of JSON, as events.jsonl has it."""

    def __call__(self, event: Event) -> None:
        print(json.dumps(event.to_dict(), separators=(",", ":"), default=str), file=self._out, flush=True)


class _Plain(_Silent):
    """A line at each phase and stage, at each finding, and about every five seconds of load."""

    _last = 0.0

    def __call__(self, event: Event) -> None:
        self._tally(event)
        if line := self._line(event):
            print(line, file=self._out, flush=True)

    def _line(self, event: Event) -> str | None:
        if event.type is EventType.INTERVAL:
            if time.monotonic() - self._last < PLAIN_EVERY_S:
                return None
            self._last = time.monotonic()
            return "  " + self._load_line()
        if event.type is EventType.STAGE_START:
            self._last = time.monotonic()
        return announce(event, self._tally)

    def _load_line(self) -> str:
        tally = self._tally
        if not tally.counting:
            return f"{tally.progress_text()}  (its requests are counted when the stage has ended)"
        parts = [tally.progress_text(), f"sent {count(tally.sent)}", f"ok {count(tally.succeeded)}"]
        parts += [f"failed {count(tally.failed)}", f"in flight {count(tally.in_flight)}"]
        rates = ((tally.request_rate, "req/s"), (tally.token_rate, "tok/s"))
        parts += [f"{digits(rate)} {unit}" for rate, unit in rates if rate is not None]
        parts += [f"TTFT p50 {digits(tally.ttft_ms)} ms"] if tally.ttft_ms is not None else []
        parts += [f"CLIENT LAG {tally.lag_ms:.0f} ms"] if tally.lag_ms > LAG_WARNING_MS else []
        return "  ".join(p for p in parts if p)


def announce(event: Event, tally: Tally) -> str | None:
    """What one event says in words; None for events that only change counters."""
    data = event.data
    match event.type:
        case EventType.RUN_START:
            return f"run {data.get('run_id')}: target {data.get('target')}"
        case EventType.PHASE if data.get("state") == "start":
            return f"{data.get('phase')} ..."
        case EventType.PHASE:
            ended = "done" if data.get("state") == "end" else str(data.get("state"))
            return f"{data.get('phase')} {ended} in {duration(float(data.get('seconds', 0.0)))}"
        case EventType.STAGE_START:
            return f"stage {tally.stage_text()}: {tally.stage_name}"
        case EventType.STAGE_END:
            return f"stage {tally.stage_text()} ended: {data.get('reason')}"
        case EventType.FINDING | EventType.ERROR:
            word = data.get("severity", "error")
            advice = f"\n  -> {data['advice']}" if data.get("advice") else ""
            return f"{word}: {data.get('message')}{advice}"
        case EventType.ALERT:
            return f"alert {data.get('name')} {data.get('state')}: {data.get('expression')} ({data.get('value')})"
        case EventType.RUN_END:
            return f"run ended: {data.get('status')}"
    return None


class _Bar(_Silent):
    """A table that renews itself in place; findings and errors scroll by above it."""

    def __init__(self, out: TextIO) -> None:
        super().__init__(out)
        from rich.console import Console
        from rich.live import Live

        self._console = Console(file=out, highlight=False, emoji=False)
        self._live = Live(
            console=self._console, refresh_per_second=REFRESH_PER_S, get_renderable=self._render, transient=True
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        from rich.text import Text

        self._tally(event)
        started = event.type is EventType.PHASE and event.data.get("state") == "start"
        if started or event.type in (EventType.INTERVAL, EventType.STAGE_START):
            return
        if line := announce(event, self._tally):
            bad = event.type is EventType.ERROR or event.data.get("severity") == "error"
            self._console.print(Text(line, style="red" if bad else "dim"))

    def _render(self) -> RenderableType:
        from .live import live_table

        return live_table(self._tally)
