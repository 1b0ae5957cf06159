"""Load generators by name, from the entry-point group ``llm_d_benchmark.load_generators``."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib.metadata import EntryPoint

from ..config.foreign.own import OwnFile
from ..domain.errors import ConfigError
from ..domain.plugins import plugins
from .api import LoadGenerator

GROUP = "llm_d_benchmark.load_generators"


def available() -> list[str]:
    """Names of the installed load generators."""
    return [*plugins(GROUP)]


def load_generator(name: str) -> LoadGenerator:
    """The load generator of that name; its module is imported only now.

    Raises:
        ConfigError: there is none of that name.
    """
    entry = _entry(name)
    if entry is not None:
        generator: LoadGenerator = entry.load()()
        return generator
    close = difflib.get_close_matches(name, available(), 1)
    raise ConfigError(
        f"no load generator '{name}'; there are: {', '.join(available())}",
        advice=f"did you mean '{close[0]}'?" if close else None,
    )


def own_file(name: str) -> OwnFile | None:
    """How the load generator of that name has its own configuration file read; None where it has none."""
    entry = _entry(name)
    return None if entry is None else getattr(entry.load(), "own_file", None)


def known_of(name: str) -> Mapping[str, str]:
    """What is known of the tool of that name (``Adapter.known``); of any other nothing."""
    entry = _entry(name)
    found: Mapping[str, str] = {} if entry is None else getattr(entry.load(), "known", {})
    return found


def _entry(name: str) -> EntryPoint | None:
    return plugins(GROUP).get(name)
