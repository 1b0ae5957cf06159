"""Load generators by name, from the entry-point group ``llm_d_benchmark.load_generators``."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..config.foreign.own import OwnFile
from ..domain.errors import BenchmarkError, ConfigError, GeneratorError
from ..domain.plugins import plugins
from .api import LoadGenerator

GROUP = "llm_d_benchmark.load_generators"
_OURS = "llm_d_benchmark."


def available() -> list[str]:
    """Names of the installed load generators."""
    return [*plugins(GROUP)]


def load_generator(name: str) -> LoadGenerator:
    """The load generator of that name; its module is imported only now.

    Raises:
        ConfigError: there is none of that name.
        GeneratorError: it is of another package and cannot be loaded.
    """
    entry = plugins(GROUP).get(name)
    if entry is not None:
        with blamed(name):
            generator: LoadGenerator = entry.load()()
        return generator
    close = difflib.get_close_matches(name, available(), 1)
    raise ConfigError(
        f"no load generator '{name}'; there are: {', '.join(available())}",
        advice=f"did you mean '{close[0]}'?" if close else None,
    )


@contextmanager
def blamed(name: str) -> Iterator[None]:
    """Whatever the code of another package raises is a failure of its load generator, not a bug of this tool.

    Raises:
        GeneratorError: it raised something that its protocol does not know; that is the cause of this error.
    """
    try:
        yield
    except BenchmarkError:
        raise
    except Exception as error:
        entry = plugins(GROUP).get(name)
        if entry is None or entry.value.startswith(_OURS):
            raise
        package = entry.dist.name if entry.dist is not None else entry.module
        raise GeneratorError(
            f"load generator '{name}' failed: {type(error).__name__}: {error}{_where(error, entry.module)}",
            advice=f"it comes with the package {package} ({entry.value}): repair, update or uninstall that",
        ) from error


def _where(error: Exception, module: str) -> str:
    """The last line of the generator's own code that was on the way; nothing where it had not begun."""
    package = module.partition(".")[0]
    own = [
        f"{Path(frame.f_code.co_filename).name}, line {line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).partition(".")[0] == package
    ]
    return f" ({own[-1]})" if own else ""


def own_file(name: str) -> OwnFile | None:
    """How the load generator of that name has its own configuration file read; None where it has none."""
    found: OwnFile | None = getattr(_class(name), "own_file", None)
    return found


def known_of(name: str) -> Mapping[str, str]:
    """What is known of the tool of that name (``Adapter.known``); of any other nothing."""
    found: Mapping[str, str] = getattr(_class(name), "known", {})
    return found


def default_endpoint(name: str) -> str:
    """Where the load generator of that name sends its requests when its configuration does not say."""
    return str(getattr(_class(name), "default_endpoint", "chat"))


def _class(name: str) -> Any:
    """What is registered under that name; None where nothing is."""
    entry = plugins(GROUP).get(name)
    if entry is None:
        return None
    with blamed(name):
        return entry.load()
