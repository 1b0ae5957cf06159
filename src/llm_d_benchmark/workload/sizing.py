"""Finds out, by asking the server before the load, how prompts of exact length can be made for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..domain.errors import ConfigError
from ..domain.schedule import Prompt
from .api import PromptSizer, TokenProbe
from .seeds import Use, generator
from .sizers import TokenIdSizer, WordSizer, array_of
from .words import words

Count = Callable[[str], Awaitable[int | None]]
CHECKS = (16, 96, 320)
CHUNK = 16
ENOUGH_WORDS = 64
MAX_LOOKUPS = 160
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
        if len(exact) >= ENOUGH_WORDS:
            return await _measured(probe, endpoint, WordSizer(array_of(exact), "tokenize", 0, None), seed)
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


async def _one_token_words(count: Count) -> list[str]:
    """Words that are one token each, also at the beginning of a text and after any other of them."""
    budget = [MAX_LOOKUPS]

    async def keep(part: Sequence[str]) -> list[str]:
        if not part or budget[0] <= 0:
            return []
        budget[0] -= 1
        if await count(" ".join(part)) == len(part):
            return list(part)
        if len(part) == 1:
            return []
        half = len(part) // 2
        return await keep(part[:half]) + await keep(part[half:])

    every = words()
    return [w for i in range(0, len(every), CHUNK) for w in await keep(every[i : i + CHUNK])]


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
    """tokens = overhead + rate * words, fitted on the server's own counts."""
    plain = WordSizer(array_of(words()), "calibrated", 0, None)
    counted = await _checks(probe, endpoint, plain, seed)
    if not counted:
        return SizerReport(plain, ("the server reports no usage and cannot tokenise: a word is taken for a token",))
    (few, low), (many, high) = counted[0], counted[-1]
    rate = max(0.1, (high - low) / (many - few))
    fitted = replace(plain, tokens_per_word=rate, overhead=max(0, round(low - rate * few)))
    again = await _checks(probe, endpoint, fitted, seed + 1)
    error = max((abs(c - fitted.overhead - a) / (a + fitted.overhead) for a, c in again), default=None)
    return SizerReport(replace(fitted, error=error))


async def _local(path: str) -> WordSizer:
    count = _local_counter(path)

    async def counted(text: str) -> int | None:
        return count(text)

    exact = await _one_token_words(counted)
    if len(exact) >= ENOUGH_WORDS:
        return WordSizer(array_of(exact), "tokenizer", 0, None, counter=count)
    every = words()
    rate = count(" ".join(every)) / len(every)
    return WordSizer(array_of(every), "tokenizer", 0, None, tokens_per_word=rate, counter=count)


def _local_counter(path: str) -> Callable[[str], int]:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise ConfigError(
            f"the tokenizer {path} needs the [tokenizers] extra", advice="pip install 'llm-d-benchmark[tokenizers]'"
        ) from None
    file = Path(path) / "tokenizer.json" if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise ConfigError(f"no tokenizer.json at {path}")
    tokenizer = Tokenizer.from_file(str(file))

    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    return count
