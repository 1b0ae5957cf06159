"""Traces: times and lengths of real traffic, or of an earlier run's schedule."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import chain
from typing import Any

from pydantic import Field

from ..config.fields import Model
from ..domain.errors import ConfigError
from ..domain.schedule import Prompt, Stage, Turn
from .api import Content, WorkloadContext
from .options import parse
from .replay import is_schedule, replay
from .rows import Row, field_of, number, read_rows
from .seeds import Streams, Use

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
    stage: int | None = Field(
        None, ge=0, description="a schedule with several stages: the one to replay; default: the stage's own number"
    )


_ISO = re.compile(r"(?P<whole>.+?)(\.(?P<fraction>\d+))?(?P<zone>Z|[+-]\d\d:?\d\d)?")
_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


class TraceWorkload:
    """Requests at the trace's own times with its lengths; equal ``hash_ids`` give equal blocks of the prompt."""

    def __init__(self, context: WorkloadContext) -> None:
        self._options = parse(TraceOptions, context.options)
        self._context = context
        self._sizer = context.sizer

    def contents(self, stage: Stage, seed: int) -> Iterator[Content]:
        rows = read_rows(self._options.path)
        first = next(rows, None)
        if first is None:
            raise ConfigError(f"{self._options.path} holds no rows")
        rows = chain([first], rows)
        if is_schedule(first[1]):
            own = stage.index if self._options.stage is None else self._options.stage
            yield from replay(self._options.path, rows, replace(stage, index=own), seed, self._context)
        else:
            yield from self._traced(rows, stage, seed)

    def _traced(self, rows: Iterable[tuple[str, Row]], stage: Stage, seed: int) -> Iterator[Content]:
        start = last = None
        prompts, blocks = Streams(seed, Use.PROMPT), Streams(seed, Use.PREFIX)
        for position, (place, row) in enumerate(rows):
            time = self._time(place, row)
            start = time if start is None else start
            if last is not None and time < last:
                raise ConfigError(f"{place}: the timestamp lies before the one above it; sort the trace by time")
            last = time
            tokens, output = number(place, row, _INPUT), number(place, row, _OUTPUT)
            if self._options.max_input is not None and tokens > self._options.max_input:
                continue
            prompt = self._prompt(place, row, max(1, tokens - self._sizer.overhead), blocks, prompts, stage, position)
            model = row.get("model") or None
            yield Content((Turn(prompt, tokens, output),), time - start, None if model is None else str(model))

    def _time(self, place: str, row: Row) -> float:
        value = field_of(place, row, _TIME, "timestamp")
        unit = self._options.time_unit or ("ms" if "hash_ids" in row else "s")
        try:
            time = float(value) * _UNITS[unit]
        except (TypeError, ValueError):
            return _iso_seconds(place, str(value))
        if not math.isfinite(time):
            raise ConfigError(f"{place}: timestamp '{value}' is not a time")
        return time

    def _prompt(
        self, place: str, row: Row, tokens: int, blocks: Streams, prompts: Streams, stage: Stage, position: int
    ) -> Prompt:
        """Each block's text depends on stage and hash alone; a shorter last one is the beginning of the whole."""
        hashes = row.get("hash_ids")
        parts: list[Any] = []
        for block in hashes if isinstance(hashes, Sequence) and not isinstance(hashes, str) else ():
            if not isinstance(block, int):
                raise ConfigError(f"{place}: hash_ids must be whole numbers, not {block!r}")
            if tokens <= 0:
                break
            size = min(self._options.block_size, tokens)
            parts.append(self._sizer.make(blocks.at(stage.index, block), size))
            tokens -= size
        if tokens > 0:
            parts.append(self._sizer.make(prompts.at(stage.index, position), tokens))
        return parts[0] if len(parts) == 1 else self._sizer.join(*parts)


def _iso_seconds(place: str, text: str) -> float:
    """Seconds of an ISO time; fractions finer than a microsecond (as the Azure traces have) are kept."""
    found = _ISO.fullmatch(text.strip())
    try:
        if found is None:
            raise ValueError
        whole = datetime.fromisoformat(found["whole"] + (found["zone"] or "+00:00").replace("Z", "+00:00"))
        return whole.timestamp() + float(f"0.{found['fraction'] or 0}")
    except ValueError:
        raise ConfigError(f"{place}: timestamp '{text}' is neither a number nor an ISO 8601 time") from None
