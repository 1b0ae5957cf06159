"""Finds out, by asking the server before the load, how prompts of exact length can be made for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..domain.schedule import Prompt
from .api import PromptSizer, TokenProbe
from .seeds import Use, generator
from .sizers import TokenIdSizer, WordSizer, array_of
from .tokenizer import token_counter
from .words import words

Count = Callable[[str], Awaitable[int | None]]
CHECKS = (16, 96, 320)
CHUNK = 16
ENOUGH_WORDS = 64
MAX_LOOKUPS = 160
USAGE_LOOKUPS = 48
HEADS = 16
_FALLBACK_IDS = range(1000, 2000)


@dataclass(frozen=True, slots=True)
class SizerReport:
    """The sizer that was found, and how well it did on the server: worst relative error over the checks."""

    sizer: PromptSizer
    messages: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "method": self.sizer.method,
            "error": self.sizer.error,
            "overhead": self.sizer.overhead,
            "messages": list(self.messages),
        }


async def build_sizer(
    probe: TokenProbe, *, endpoint: str, tokenizer_path: str | None, seed: int, text: bool = False
) -> SizerReport:
    """The most exact sizer this server allows, in this order: token ids (completions only), its /tokenize, a local
    tokenizer, calibration by the usage it reports, words taken for tokens.

    Args:
        endpoint: chat or completions.
        tokenizer_path: folder with tokenizer.json, or the file itself.
        text: never token ids; a conversation's history is text.

    Raises:
        ConfigError: the local tokenizer cannot be loaded.
    """
    ids = await probe.tokenize(" ".join(words()))
    if endpoint == "completions" and not text and (found := await _token_ids(probe, ids)) is not None:
        return found
    if ids is not None:
        exact = await _one_token_words(lambda text: _length(probe, text))
        if exact is not None:
            return await _measured(probe, endpoint, exact.sizer("tokenize"), seed)
    if tokenizer_path is not None:
        return await _measured(probe, endpoint, await _local(tokenizer_path), seed)
    return await _calibrated(probe, endpoint, seed)


async def _length(probe: TokenProbe, text: str) -> int | None:
    ids = await probe.tokenize(text)
    return None if ids is None else len(ids)


async def _token_ids(probe: TokenProbe, ids: Sequence[int] | None) -> SizerReport | None:
    """Token ids, where the server counts a prompt of n of them as n, plus the same few every time."""
    pool = sorted(set(ids)) if ids else list(_FALLBACK_IDS)
    extra = []
    for size in (8, 64):
        counted = await probe.usage("completions", tuple((pool * size)[:size]))
        if counted is None:
            return None
        extra.append(counted - size)
    if extra[0] != extra[1] or extra[0] < 0:
        return None
    return SizerReport(TokenIdSizer(array_of(pool), extra[0], 0.0))


@dataclass(frozen=True, slots=True)
class _Found:
    """Words that are one token each after any other of them; the first ``heads`` also at the beginning of a text."""

    words: Sequence[str]
    heads: int

    def sizer(self, method: str, counter: Callable[[str], int] | None = None) -> WordSizer:
        return WordSizer(array_of(self.words), method, 0, None, counter=counter, heads=self.heads)


async def _one_token_words(
    count: Count, *, lookups: int = MAX_LOOKUPS, stop_at: int | None = None, heads: int = HEADS
) -> _Found | None:
    """As many words as ``lookups`` questions find, or ``stop_at``, of which ``heads`` are tried as beginnings; None
    where they are too few for prompts that differ."""
    every = words()
    start = await _first_of(count, every[:HEADS])
    if start is None:
        return None
    found: list[str] = []
    asked = 0

    async def surplus(part: Sequence[str]) -> int:
        """Tokens beyond one a word."""
        nonlocal asked
        asked += 1
        return (await count(" ".join([start, *part])) or 0) - 1 - len(part)

    async def split(part: Sequence[str], extra: int) -> None:
        if extra == 0:
            found.extend(part)
        elif len(part) > 1 and asked < lookups:
            half = len(part) // 2
            left = await surplus(part[:half])
            await split(part[:half], left)
            await split(part[half:], extra - left)

    for i in range(0, len(every), CHUNK):
        if asked < lookups and (stop_at is None or len(found) < stop_at):
            await split(every[i : i + CHUNK], await surplus(every[i : i + CHUNK]))
    if len(found) < ENOUGH_WORDS:
        return None
    first = [word for word in found[:heads] if await count(word) == 1]
    return _Found([*first, *(w for w in found if w not in first)], len(first)) if first else None


async def _first_of(count: Count, some: Sequence[str]) -> str | None:
    for word in some:
        if await count(word) == 1:
            return word
    return None


async def _measured(probe: TokenProbe, endpoint: str, sizer: WordSizer, seed: int) -> SizerReport:
    """The sizer with the server's own overhead allowed for, and its error on the checks."""
    counted = await _checks(probe, endpoint, sizer, seed)
    if not counted:
        message = "the server reports no usage: its own overhead (template, first token) is not in the prompt lengths"
        return SizerReport(sizer, (message,))
    overhead = min(c - asked for asked, c in counted)
    sizer = replace(sizer, overhead=max(0, overhead))
    error = max(abs(c - sizer.overhead - asked) / (asked + sizer.overhead) for asked, c in counted)
    return SizerReport(replace(sizer, error=error))


async def _checks(probe: TokenProbe, endpoint: str, sizer: WordSizer, seed: int) -> list[tuple[int, int]]:
    """(asked, counted) of a few prompts; empty where the server does not count."""
    out = []
    for size in CHECKS:
        prompt: Prompt = sizer.make(generator(seed, Use.SIZER, size), size)
        counted = await probe.usage(endpoint, prompt)
        if counted is None:
            return []
        out.append((size, counted))
    return out


async def _calibrated(probe: TokenProbe, endpoint: str, seed: int) -> SizerReport:
    """Words that the server's own usage shows to be one token each; else tokens = overhead + rate * words, fitted."""
    plain = WordSizer(array_of(words()), "calibrated", 0, None)
    counted = await _checks(probe, endpoint, plain, seed)
    if not counted:
        return SizerReport(plain, ("the server reports no usage and cannot tokenise: a word is taken for a token",))
    exact = await _words_by_usage(probe, endpoint)
    if exact is not None:
        return await _measured(probe, endpoint, exact.sizer("calibrated"), seed)
    (few, low), (many, high) = counted[0], counted[-1]
    rate = max(0.1, (high - low) / (many - few))
    fitted = replace(plain, tokens_per_word=rate, overhead=max(0, round(low - rate * few)))
    again = await _checks(probe, endpoint, fitted, seed + 1)
    error = max((abs(c - fitted.overhead - a) / (a + fitted.overhead) for a, c in again), default=None)
    return SizerReport(replace(fitted, error=error))


async def _words_by_usage(probe: TokenProbe, endpoint: str) -> _Found | None:
    """Each question is a request of one output token, so they are few and end as soon as there are enough words."""
    some = words()[0]
    once, twice = [await probe.usage(endpoint, " ".join([some] * n)) for n in (8, 16)]
    if once is None or twice is None:
        return None
    extra = 2 * once - twice

    async def counted(text: str) -> int | None:
        usage = await probe.usage(endpoint, text)
        return None if usage is None else usage - extra

    return await _one_token_words(counted, lookups=USAGE_LOOKUPS, stop_at=2 * ENOUGH_WORDS, heads=HEADS // 2)


async def _local(path: str) -> WordSizer:
    count = token_counter(path)

    async def counted(text: str) -> int | None:
        return count(text)

    # Asking costs nothing here.
    exact = await _one_token_words(counted, lookups=2 * len(words()), heads=len(words()))
    if exact is not None:
        return exact.sizer("tokenizer", count)
    every = words()
    rate = count(" ".join(every)) / len(every)
    return WordSizer(array_of(every), "tokenizer", 0, None, tokens_per_word=rate, counter=count)
