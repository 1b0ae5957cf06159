"""Prompts of exact token lengths: the kinds of sizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class TokenIdSizer:
    """Prompts are token ids: as long as asked, with nothing to tokenise. Completions API only."""

    ids: npt.NDArray[Any]
    overhead: int
    error: float | None
    method: str = "token_ids"

    def make(self, rng: np.random.Generator, tokens: int) -> tuple[int, ...]:
        return tuple(self.ids[rng.integers(len(self.ids), size=tokens)].tolist())

    def join(self, *parts: str | tuple[int, ...]) -> tuple[int, ...]:
        return tuple(t for part in parts if not isinstance(part, str) for t in part)

    def count(self, text: str) -> int | None:
        return None


@dataclass(frozen=True, slots=True)
class WordSizer:
    """Prompts are words. ``tokens_per_word`` is 1 where every word is known to be one token; otherwise an average that
    was fitted to counts. Only the first ``heads`` of the words begin a text, where tokenizers see them differently."""

    words: npt.NDArray[Any]
    method: str
    overhead: int
    error: float | None
    tokens_per_word: float = 1.0
    counter: Callable[[str], int] | None = None
    heads: int | None = None

    def make(self, rng: np.random.Generator, tokens: int) -> str:
        number = max(1, round(tokens / self.tokens_per_word))
        places = rng.integers(len(self.words), size=number)
        if self.heads is not None:
            places[0] %= self.heads
        return " ".join(self.words[places].tolist())

    def join(self, *parts: str | tuple[int, ...]) -> str:
        return " ".join(p for p in parts if isinstance(p, str))

    def count(self, text: str) -> int | None:
        return None if self.counter is None else self.counter(text)


def array_of(values: Sequence[str] | Sequence[int]) -> npt.NDArray[Any]:
    """Values to draw from by index."""
    return np.asarray(values, dtype=object if values and isinstance(values[0], str) else np.int64)
