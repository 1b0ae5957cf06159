"""Prompts as token ids, and the hashes of their blocks.

Workloads make prompts of random words. Where nothing but the engine model reads them, a prompt of n tokens is written
as one word, ``~SEED*N``: its tokens are a function of the seed, two seeds share none, and a shorter one is how a longer
one begins. Any other text is tokenized as the simulator's server does it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .server.tokenizer import Tokenizer

Ids = npt.NDArray[np.uint64]
_MADE = re.compile(r"~([0-9a-f]+)\*([0-9]+)")
_ODD = 0x9E3779B97F4A7C15
_MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_MASK = 2**64 - 1
_SCRAMBLE, _SHIFT = np.uint64(_MIX[0]), np.uint64(29)


class Made(str):
    """A made prompt that need not be read again to know its seed and its tokens."""

    __slots__ = ("seed", "tokens")
    seed: int
    tokens: int

    def __new__(cls, seed: int, tokens: int) -> Made:
        made = super().__new__(cls, f"~{seed:x}*{tokens}")
        made.seed, made.tokens = seed, tokens
        return made


@dataclass(frozen=True, slots=True)
class MadePrompts:
    """A ``PromptSizer`` for the virtual clock: exact, and nothing is written out.

    Attributes:
        overhead: tokens that the chat template adds to a prompt of one message.
    """

    overhead: int = 0
    method: str = "simulated"
    error: float | None = 0.0

    def make(self, rng: np.random.Generator, tokens: int) -> str:
        return Made(rng.bit_generator.random_raw(), tokens)

    def join(self, *parts: str | tuple[int, ...]) -> str:
        return " ".join(p for p in parts if isinstance(p, str))

    def count(self, text: str) -> int | None:
        return len(TokenReader().text(text))


def chat_overhead() -> int:
    """Tokens that the chat template adds to a prompt of one message."""
    return len(Tokenizer().chat([("user", "")]))


class TokenReader:
    """Token ids of prompts. Made ones are 64-bit numbers that no tokenizer gives."""

    def __init__(self) -> None:
        self._tokenizer = Tokenizer()
        self._heads: dict[str, Ids] = {}
        self._end = _array(self._tokenizer.chat([("user", "")], add_generation_prompt=False)[-1:])
        self._answer = _array(self._tokenizer.chat([]))
        self._after = np.concatenate([self._end, self._answer])
        self._places = np.arange(1, 2049, dtype=np.uint64) * np.uint64(_ODD)

    def text(self, text: str) -> Ids:
        """Ids of a text. Blanks around made parts are no tokens."""
        if isinstance(text, Made):
            return self.made(text.seed, text.tokens)
        parts, at = [], 0
        for made in _MADE.finditer(text):
            parts += [self._plain(text[at : made.start()]), self.made(int(made[1], 16), int(made[2]))]
            at = made.end()
        parts.append(self._plain(text[at:]) if parts else _array(self._tokenizer.encode(text)))
        return np.concatenate(parts)

    def chat(self, messages: Iterable[tuple[str, Ids]], *, answer: bool) -> Ids:
        """Ids of chat messages (role, ids of the content) under the server's template; ``answer``: ready for one."""
        parts = []
        for role, content in messages:
            parts += [self._head(role), content, self._end]
        if answer:
            parts.append(self._answer)
        return np.concatenate(parts)

    def question(self, content: Ids) -> Ids:
        """Ids of a chat of one message of the user, ready for an answer."""
        return np.concatenate((self._head("user"), content, self._after))

    def _head(self, role: str) -> Ids:
        if role not in self._heads:
            self._heads[role] = _array(self._tokenizer.chat([(role, "")], add_generation_prompt=False)[:-1])
        return self._heads[role]

    def made(self, seed: int, tokens: int) -> Ids:
        """The first ``tokens`` tokens of a seed."""
        if tokens > len(self._places):
            self._places = np.arange(1, 2 * tokens + 1, dtype=np.uint64) * np.uint64(_ODD)
        return self._places[:tokens] + np.uint64(mix(seed))

    def _plain(self, text: str) -> Ids:
        return _array(self._tokenizer.encode(text)) if text.strip() else np.empty(0, np.uint64)


def _array(ids: Sequence[int]) -> Ids:
    return np.asarray(ids, np.uint64)


def mix(value: int) -> int:
    """A 64-bit number that depends on every bit of another (the finaliser of splitmix64)."""
    value = (value + _ODD) & _MASK
    value = ((value ^ (value >> 30)) * _MIX[0]) & _MASK
    value = ((value ^ (value >> 27)) * _MIX[1]) & _MASK
    return value ^ (value >> 31)


class BlockHasher:
    """Hashes of the full blocks of token ids, each with all before it: equal hashes mean equal prefixes, but for a
    chance of the order of 2**-64.

    Each token is scrambled and multiplied by a factor of its place, and the products are summed up from the first, so
    that a whole prompt takes a few array operations.
    """

    def __init__(self, block_size: int) -> None:
        self._size = block_size
        self._factors = _factors(2048)

    def __call__(self, ids: Ids | Sequence[int]) -> list[int]:
        """One hash per full block."""
        count = len(ids) - len(ids) % self._size
        if count > len(self._factors):
            self._factors = _factors(2 * count)
        values: Ids = np.asarray(ids[:count], np.uint64) * _SCRAMBLE
        values ^= values >> _SHIFT
        values *= self._factors[:count]
        hashes: list[int] = values.cumsum()[self._size - 1 :: self._size].tolist()
        return hashes


def _factors(count: int) -> Ids:
    return np.array([mix(i) | 1 for i in range(count)], np.uint64)
