"""Prompts as token ids, and the hashes of their blocks.

Workloads make prompts of random words. Where nothing but the engine model reads them, a prompt of n tokens is written
as ``<MARK SEED*N>``: its tokens are a function of the seed, two seeds share none, and a shorter one is how a longer one
begins. They are an arithmetic progression, so that nothing need be done for each of them. Any other text is tokenized
as the simulator's server does it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .server.tokenizer import Tokenizer

Ids = npt.NDArray[np.uint64]
_MARK = secrets.token_hex(8)
"""Differs from process to process, so that no text of a user is taken for a made prompt."""
_MADE = re.compile(rf"<{_MARK} ([0-9a-f]+)\*([0-9]+)>")
_ODD = 0x9E3779B97F4A7C15
_MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_MASK = 2**64 - 1
_FEW = 32
"""Ids that are added up faster one by one than as an array."""


class Progression(NamedTuple):
    """The tokens of a made prompt: ``first`` and so on, each ``_ODD`` more than the one before, modulo 2**64."""

    first: int
    length: int

    def tolist(self) -> list[int]:
        return [(self.first + k * _ODD) & _MASK for k in range(self.length)]


Piece = Progression | Sequence[int] | Ids


class Tokens:
    """A prompt, in pieces."""

    __slots__ = ("count", "pieces")

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self.pieces = tuple(pieces)
        self.count = sum([p.length if isinstance(p, Progression) else len(p) for p in self.pieces])

    def __len__(self) -> int:
        return self.count

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.pieces + other.pieces)

    def tolist(self) -> list[int]:
        """Every token."""
        lists = [p.tolist() if isinstance(p, Progression | np.ndarray) else p for p in self.pieces]
        return [int(token) for part in lists for token in part]


class Made(str):
    """A made prompt that need not be read again to know its seed and its tokens."""

    __slots__ = ("seed", "tokens")
    seed: int
    tokens: int

    def __new__(cls, seed: int, tokens: int) -> Made:
        made = super().__new__(cls, f"<{_MARK} {seed:x}*{tokens}>")
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
    """Tokens of prompts. Those of made ones are 64-bit numbers that no tokenizer gives."""

    def __init__(self) -> None:
        self._tokenizer = Tokenizer()
        self._heads: dict[str, Sequence[int]] = {}
        self._end = tuple(self._tokenizer.chat([("user", "")], add_generation_prompt=False)[-1:])
        self._answer = tuple(self._tokenizer.chat([]))
        self._after = self._end + self._answer

    def text(self, text: str) -> Tokens:
        """Tokens of a text. Blanks around made parts are none."""
        if isinstance(text, Made):
            return self.made(text.seed, text.tokens)
        pieces: list[Piece] = []
        at = 0
        for made in _MADE.finditer(text):
            pieces += [self._plain(text[at : made.start()]), *self.made(int(made[1], 16), int(made[2])).pieces]
            at = made.end()
        pieces.append(self._plain(text[at:]) if pieces else np.array(self._tokenizer.encode(text), np.uint64))
        return Tokens(pieces)

    def chat(self, messages: Iterable[tuple[str, Tokens]], *, answer: bool) -> Tokens:
        """Tokens of chat messages (role, content) under the server's template; ``answer``: ready for one."""
        pieces: list[Piece] = []
        for role, content in messages:
            pieces += [self._head(role), *content.pieces, self._end]
        if answer:
            pieces.append(self._answer)
        return Tokens(pieces)

    def question(self, content: Tokens) -> Tokens:
        """Tokens of a chat of one message of the user, ready for an answer."""
        return Tokens((self._head("user"), *content.pieces, self._after))

    def _head(self, role: str) -> Sequence[int]:
        head = self._heads.get(role)
        if head is None:
            head = tuple(self._tokenizer.chat([(role, "")], add_generation_prompt=False)[:-1])
            self._heads[role] = head
        return head

    def made(self, seed: int, tokens: int) -> Tokens:
        """The first ``tokens`` tokens of a seed."""
        return Tokens((Progression((mix(seed) + _ODD) & _MASK, tokens),))

    def _plain(self, text: str) -> Piece:
        return np.array(self._tokenizer.encode(text), np.uint64) if text.strip() else ()


def mix(value: int) -> int:
    """A 64-bit number that depends on every bit of another (the finaliser of splitmix64)."""
    value = (value + _ODD) & _MASK
    value = ((value ^ (value >> 30)) * _MIX[0]) & _MASK
    value = ((value ^ (value >> 27)) * _MIX[1]) & _MASK
    return value ^ (value >> 31)


class BlockHasher:
    """Hashes of the full blocks of a prompt, each with all before it: equal hashes mean equal prefixes, but for a
    chance of the order of 2**-60.

    The hash after n tokens is the sum of token i times factor i for i < n, modulo 2**64, with random odd factors: how
    the tokens come in pieces makes no difference, and that of a progression follows from two sums over the factors.
    """

    def __init__(self, block_size: int) -> None:
        self._size = block_size
        self._grow(2048)

    def __call__(self, tokens: Tokens) -> list[int]:
        """One hash per full block."""
        if len(tokens) >= len(self._sums):
            self._grow(2 * len(tokens))
        hashes: list[int] = []
        at = total = 0
        for piece in tokens.pieces:
            if isinstance(piece, Progression):
                total = self._progression(piece, at, total, hashes)
                at += piece.length
            elif len(piece):
                total = (self._few if len(piece) < _FEW else self._many)(piece, at, total, hashes)
                at += len(piece)
        return hashes

    def _progression(self, piece: Progression, at: int, total: int, hashes: list[int]) -> int:
        # first * sum(f) + ODD * sum((i - at) * f) over the places of the piece, see _grow
        end, start = at + piece.length, piece.first - at * _ODD
        constant = total - start * self._sums[at] - self._moments[at]
        first, last = at // self._size, end // self._size
        if last > first:
            found = self._block_sums[first:last] * np.uint64(start & _MASK)
            found += self._block_moments[first:last]
            found += np.uint64(constant & _MASK)
            hashes += found.tolist()
        return (constant + start * self._sums[end] + self._moments[end]) & _MASK

    def _few(self, piece: Sequence[int] | Ids, at: int, total: int, hashes: list[int]) -> int:
        for place, token in enumerate(piece, at):
            total += int(token) * self._factors_list[place]
            if (place + 1) % self._size == 0:
                hashes.append(total & _MASK)
        return total & _MASK

    def _many(self, piece: Sequence[int] | Ids, at: int, total: int, hashes: list[int]) -> int:
        sums: Ids = np.asarray(piece, np.uint64) * self._factors[at : at + len(piece)]
        sums[0] = (int(sums[0]) + total) & _MASK
        sums = sums.cumsum()
        hashes += sums[-(at + 1) % self._size :: self._size].tolist()
        return int(sums[-1])

    def _grow(self, count: int) -> None:
        """Factors of ``count`` places; up to each place, the sums of the factors and of ``_ODD`` times place times
        factor; and both after each full block."""
        places = np.arange(count, dtype=np.uint64)
        self._factors = _mixed(places) | np.uint64(1)
        moments = places * self._factors * np.uint64(_ODD)
        self._factors_list: list[int] = self._factors.tolist()
        sums, moments = (np.concatenate([places[:1], each.cumsum()]) for each in (self._factors, moments))
        self._sums: list[int] = sums.tolist()
        self._moments: list[int] = moments.tolist()
        self._block_sums = sums[self._size :: self._size]
        self._block_moments = moments[self._size :: self._size]


def _mixed(values: Ids) -> Ids:
    """``mix`` of each."""
    values = values + np.uint64(_ODD)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(_MIX[0])
    values = (values ^ (values >> np.uint64(27))) * np.uint64(_MIX[1])
    return values ^ (values >> np.uint64(31))
