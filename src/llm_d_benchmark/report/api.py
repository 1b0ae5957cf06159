"""What a report is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..domain.events import Event
from ..domain.result import RunResult


class Histogram(Protocol):
    """``counts[i]`` values fell between ``edges[i]`` and ``edges[i + 1]`` (seconds)."""

    @property
    def edges(self) -> Sequence[float]: ...

    @property
    def counts(self) -> Sequence[int]: ...


class Timeline(Protocol):
    """Counts of consecutive seconds from ``start`` (epoch ns): requests sent, succeeded, failed, and in flight."""

    @property
    def start(self) -> int: ...

    @property
    def sent(self) -> Sequence[float]: ...

    @property
    def succeeded(self) -> Sequence[float]: ...

    @property
    def failed(self) -> Sequence[float]: ...

    @property
    def in_flight(self) -> Sequence[float]: ...


class StageCurves(Protocol):
    """The curves of one stage (index ``stage``). ``quantiles`` and ``histograms`` are by metric: ttft, itl, tpot, e2e,
    in seconds; quantiles at evenly spaced levels from 0 to 1."""

    @property
    def stage(self) -> int: ...

    @property
    def quantiles(self) -> Mapping[str, Sequence[float]]: ...

    @property
    def histograms(self) -> Mapping[str, Histogram]: ...

    @property
    def timeline(self) -> Timeline: ...


@dataclass(frozen=True, slots=True)
class ReportInput:
    """One finished run, as every report sees it.

    Attributes:
        result: the content of result.json; every number in a table comes from it.
        config_yaml: the resolved configuration, without secrets.
        command: the exact command that reproduces the run; empty where it is not known.
        events: every event of the run, in order.
        curves: quantiles, histograms and timelines of the stages, for the figures.
        host: what the manifest says of the client's machine (name: value), without secrets.
    """

    result: RunResult
    config_yaml: str
    command: str
    events: Sequence[Event]
    curves: Sequence[StageCurves]
    host: Mapping[str, Any] = field(default_factory=dict)
