"""What a report is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..analyze.curves import StageCurves
from ..domain.events import Event
from ..domain.result import RunResult


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
