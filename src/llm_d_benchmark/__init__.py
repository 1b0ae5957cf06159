"""llm-d-benchmark: measure LLM inference servers and decide with what was measured.

The public Python API is small: ``load_config``, ``run`` and ``open_run``. Everything else is reached through the
rooms described in CONTRIBUTING.md and may change between minor versions.
"""

__version__ = "0.3.0"
