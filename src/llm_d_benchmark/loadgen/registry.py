"""Load generators by name, from the entry-point group ``llm_d_benchmark.load_generators``."""

from __future__ import annotations

import difflib
from importlib.metadata import entry_points

from ..domain.errors import ConfigError
from .api import LoadGenerator

GROUP = "llm_d_benchmark.load_generators"


def available() -> list[str]:
    """Names of the installed load generators."""
    return sorted({e.name for e in entry_points(group=GROUP)})


def load_generator(name: str) -> LoadGenerator:
    """The load generator of that name; its module is imported only now.

    Raises:
        ConfigError: there is none of that name.
    """
    for entry in entry_points(group=GROUP):
        if entry.name == name:
            generator: LoadGenerator = entry.load()()
            return generator
    close = difflib.get_close_matches(name, available(), 1)
    raise ConfigError(
        f"no load generator '{name}'; there are: {', '.join(available())}",
        advice=f"did you mean '{close[0]}'?" if close else None,
    )
