"""Workloads by name, from the entry-point group ``llm_d_benchmark.workloads``."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from ..domain.errors import ConfigError
from ..domain.plugins import plugins
from .api import Workload, WorkloadContext

GROUP = "llm_d_benchmark.workloads"


def available() -> list[str]:
    """Names of the installed workloads."""
    return [*plugins(GROUP)]


def create_workload(options: Mapping[str, Any], context: WorkloadContext) -> Workload:
    """The workload that ``options["type"]`` names (default synthetic), built with ``context``.

    Raises:
        ConfigError: there is none of that name, or its options are wrong.
    """
    name = str(options.get("type", "synthetic"))
    entry = plugins(GROUP).get(name)
    if entry is not None:
        workload: Workload = entry.load()(context)
        return workload
    close = difflib.get_close_matches(name, available(), 1)
    raise ConfigError(
        f"no workload '{name}'; there are: {', '.join(available())}",
        advice=f"did you mean '{close[0]}'?" if close else None,
    )
