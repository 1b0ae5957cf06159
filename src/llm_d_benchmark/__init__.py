"""llm-d-benchmark: measure LLM inference servers and decide with what was measured.

The public Python API is small: ``load_config``, ``run``, ``open_run`` and the ``Run`` they give, ``compare`` and
``regress``. Everything else is reached through the rooms described in CONTRIBUTING.md and may change between minor
versions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .domain.version import VERSION

__version__ = VERSION
__all__ = ["Run", "__version__", "compare", "load_config", "open_run", "regress", "run"]

if TYPE_CHECKING:
    from .api import Run, compare, load_config, open_run, regress, run


def __getattr__(name: str) -> Any:
    # Lazily, so that `llm-d-benchmark --help` does not pay for what only a notebook needs.
    if name in __all__:
        from . import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
