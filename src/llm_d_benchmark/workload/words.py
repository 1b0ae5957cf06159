"""The built-in list of common English words that synthetic prompts are made of."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def words() -> tuple[str, ...]:
    """Distinct lower-case words, most of them one token in the tokenizers of the field."""
    return tuple(resources.files("llm_d_benchmark.workload").joinpath("words.txt").read_text().split())
