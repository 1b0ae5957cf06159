"""Traces: times and lengths of real traffic, or of an earlier run's schedule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from pydantic import Field

from ..config.fields import Model
from ..config.load import Length
from ..domain.errors import ConfigError
from ..domain.schedule import Prompt, Stage, Turn
from .api import Content, WorkloadContext
from .options import parse
from .rows import Row, read_rows
from .seeds import Use, generator

_TIME = ("timestamp", "TIMESTAMP", "time", "arrived_at")
_INPUT = ("input_length", "input", "ContextTokens", "input_tokens", "num_prefill_tokens", "prompt_tokens")
_OUTPUT = ("output_length", "output", "GeneratedTokens", "output_tokens", "num_decode_tokens")


class TraceOptions(Model):
    """``workload: {type: trace}``."""

    path: str = Field(description="a .csv or .jsonl file with a timestamp, input and output length per request")
    time_unit: str | None = Field(
        None,
        pattern="^(s|ms|us|ns)$",
        description="unit of numeric timestamps; default: ms where rows have hash_ids, else s",
    )
    block_size: int = Field(512, ge=1, description="tokens of one block of hash_ids")
    max_input: int | None = Field(None, ge=1, description="leave out requests with longer prompts")
    input_length: Length | None = Field(None, description="not used here: the trace says")
    output_length: Length | None = Field(None, description="not used here: the trace says")


_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


class TraceWorkload:
    """Requests at the trace's own times with its lengths; equal ``hash_ids`` give equal blocks of the prompt."""

    def __init__(self, context: WorkloadContext) -> None:
        options = {k: v for k, v in context.options.items() if k not in ("input_length", "output_length")}
        self._options = parse(TraceOptions, options)
        self._sizer = context.sizer

    def contents(self, stage: Stage, seed: int) -> Iterator[Content]:
        start: float | None = None
        for position, (place, row) in enumerate(read_rows(self._options.path)):
            time = self._time(place, row)
            start = time if start is None else start
            tokens, output = _number(place, row, _INPUT), _number(place, row, _OUTPUT)
            if self._options.max_input is not None and tokens > self._options.max_input:
                continue
            model = row.get("model") or None
            if time < start:
                raise ConfigError(f"{place}: the timestamp lies before the one above it; sort the trace by time")
            turn = Turn(self._prompt(row, tokens, stage, seed, position), max(tokens, self._sizer.overhead + 1), output)
            yield Content((turn,), offset_s=time - start, model=None if model is None else str(model))

    def _time(self, place: str, row: Row) -> float:
        value = _field(place, row, _TIME, "timestamp")
        try:
            unit = self._options.time_unit or ("ms" if "hash_ids" in row else "s")
            return float(value) * _UNITS[unit]
        except (TypeError, ValueError):
            return _iso_seconds(place, str(value))

    def _prompt(self, row: Row, tokens: int, stage: Stage, seed: int, position: int) -> Prompt:
        wanted = max(1, tokens - self._sizer.overhead)
        blocks = row.get("hash_ids")
        if not isinstance(blocks, Sequence) or isinstance(blocks, str) or not blocks:
            return self._sizer.make(generator(seed, Use.PROMPT, stage.index, position), wanted)
        parts: list[Any] = []
        for block in blocks:
            size = min(self._options.block_size, wanted)
            if size <= 0:
                break
            # The block's text depends on its hash alone, and a shorter last block is the beginning of the whole one.
            parts.append(self._sizer.make(generator(seed, Use.PREFIX, int(block)), size))
            wanted -= size
        if wanted > 0:
            parts.append(self._sizer.make(generator(seed, Use.PROMPT, stage.index, position), wanted))
        return self._sizer.join(*parts)


def _field(place: str, row: Row, names: Sequence[str], what: str) -> Any:
    for name in names:
        if row.get(name) not in (None, ""):
            return row[name]
    raise ConfigError(f"{place}: no {what}", advice=f"a trace row needs one of: {', '.join(names)}")


def _number(place: str, row: Row, names: Sequence[str]) -> int:
    value = _field(place, row, names, names[0])
    try:
        return max(1, int(float(value)))
    except (TypeError, ValueError):
        raise ConfigError(f"{place}: '{value}' is not a number of tokens") from None


def _iso_seconds(place: str, text: str) -> float:
    """Seconds of an ISO time; fractions finer than a microsecond (as the Azure traces have) are kept."""
    head, dot, fraction = text.strip().rstrip("Z").partition(".")
    digits = fraction[: len(fraction) - len(fraction.lstrip("0123456789"))] if dot else ""
    zone = fraction[len(digits) :] if dot else ""
    try:
        return datetime.fromisoformat(head + (zone or "+00:00")).timestamp() + float(f"0.{digits or 0}")
    except ValueError:
        raise ConfigError(f"{place}: timestamp '{text}' is neither a number nor an ISO 8601 time") from None
