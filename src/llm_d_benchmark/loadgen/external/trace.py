"""A trace as times and lengths, for tools that make the prompts themselves."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, takewhile

import numpy as np

from ...config.load import LoadConfig
from ...domain.events import Finding
from ...domain.schedule import Stage
from ...workload.api import WorkloadContext
from ...workload.schedule import workload_options
from ...workload.trace import TraceWorkload
from . import plan

Row = tuple[float, int, int]
"""Seconds after the first request, prompt tokens, output tokens."""


class _LengthsOnly:
    """Makes no prompts."""

    method, error, overhead = "none", None, 0

    def make(self, rng: np.random.Generator, tokens: int) -> str:
        return ""

    def join(self, *parts: str | tuple[int, ...]) -> str:
        return ""

    def count(self, text: str) -> int | None:
        return None


def trace_rows(config: LoadConfig, stage: Stage) -> list[Row]:
    """The requests of a trace that fall into a stage, in the forms and units that the native generator reads too.

    Raises:
        ConfigError: the file is no trace.
    """
    context = WorkloadContext(_LengthsOnly(), stage.endpoint, workload_options(config))
    speedup = float(stage.load.arrival.get("speedup", 1.0))
    contents = TraceWorkload(context).contents(stage, config.seed)
    rows = (
        ((content.offset_s or 0.0) / speedup, turn.input_asked or 1, turn.output_asked or 1)
        for content in contents
        for turn in content.turns
    )
    limit = stage.load_s
    inside = rows if limit is None else takewhile(lambda row: row[0] < limit, rows)
    return list(islice(inside, stage.num_requests))


def trace_findings(tool: str, config: LoadConfig) -> Iterator[Finding]:
    """What is lost of a trace."""
    if any(asked.arrival != "trace" for asked in plan.loads_of(config)):
        yield plan.error(
            "trace_without_its_times",
            f"{tool} sends a trace at its own times only",
            "set 'arrival: trace' and leave out request_rate and concurrency",
        )
    yield plan.warning(
        "trace_prefixes_lost",
        f"{tool} makes fresh prompts of a trace's lengths: equal hash_ids give no equal beginnings",
        "use the native generator where the trace's shared prefixes matter",
    )
