"""Workloads by name, from the entry-point group ``llm_d_benchmark.workloads``."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from ..domain.errors import ConfigError
from .api import Workload, WorkloadContext

GROUP = "llm_d_benchmark.workloads"


def available() -> list[str]:
    """Names of the installed workloads."""
    return sorted({e.name for e in entry_points(group=GROUP)})


def create_workload(options: Mapping[str, Any], context: WorkloadContext) -> Workload:
    """The workload that ``options["type"]`` names (default synthetic), built with ``context``.

    Raises:
        ConfigError: there is none of that name, or its options are wrong.
    """
    name = str(options.get("type", "synthetic"))
    for entry in entry_points(group=GROUP):
        if entry.name == name:
            workload: Workload = entry.load()(context)
            return workload
    close = difflib.get_close_matches(name, available(), 1)
    raise ConfigError(
        f"no workload '{name}'; there are: {', '.join(available())}",
        advice=f"did you mean '{close[0]}'?" if close else None,
    )
