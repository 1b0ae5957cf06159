"""The extension point for workloads: where prompts come from, and how their length is made exact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..domain.events import Finding
from ..domain.schedule import Prompt, Session, Stage, Turn


class PromptSizer(Protocol):
    """Makes prompts of an exact number of tokens for one model.

    Attributes:
        method: token_ids | tokenize | tokenizer | calibrated; recorded with the result.
        error: worst relative deviation seen when the method was tried on the server, None where it could not be tried.
        overhead: tokens the server adds by itself (beginning-of-sequence, chat template), already allowed for.
    """

    @property
    def method(self) -> str: ...

    @property
    def error(self) -> float | None: ...

    @property
    def overhead(self) -> int: ...

    def make(self, rng: np.random.Generator, tokens: int) -> str | tuple[int, ...]:
        """Fresh text (or token ids) which the server counts as ``tokens`` tokens, its overhead not included."""
        ...

    def join(self, *parts: str | tuple[int, ...]) -> str | tuple[int, ...]:
        """Parts made by ``make`` put together so that their lengths add up."""
        ...

    def count(self, text: str) -> int | None:
        """Tokens of ``text``; None where the method cannot count."""
        ...


@dataclass(frozen=True, slots=True)
class Content:
    """The turns of one session before it has a place in a schedule.

    Attributes:
        offset_s: the session's own start in seconds, where the workload has times (a trace).
        model: model name where the workload names one.
    """

    turns: tuple[Turn, ...]
    offset_s: float | None = None
    model: str | None = None


class TokenProbe(Protocol):
    """What the server under test can tell of token counts; asked before the load, never during it."""

    async def tokenize(self, text: str) -> list[int] | None:
        """Token ids of ``text`` without special tokens; None where the server has no such endpoint."""
        ...

    async def usage(self, endpoint: str, prompt: Prompt) -> int | None:
        """Prompt tokens the server's usage reports for this prompt; None where it refuses or does not tell."""
        ...


class Workload(Protocol):
    """What to send. One instance serves a whole run.

    ``contents`` must depend on ``stage.index``, ``seed`` and the workload's options only, so that every shard and every
    replay sees the same sessions; prompts differ between stages unless the options ask for sharing. It may be infinite.
    """

    def contents(self, stage: Stage, seed: int) -> Iterator[Content]: ...


@runtime_checkable
class HasFindings(Protocol):
    """A workload that has something to say of its files."""

    def findings(self) -> Sequence[Finding]:
        """What it left out and the like; complete once the first content was made."""
        ...


@dataclass(frozen=True, slots=True)
class WorkloadContext:
    """What a workload is built with: ``sizer`` for exact lengths, ``endpoint`` (chat | completions), its options."""

    sizer: PromptSizer
    endpoint: str
    options: Mapping[str, Any] = field(default_factory=dict)


class Schedule(Protocol):
    """The sessions of a stage in order of their position; sharding picks positions."""

    def sessions(self, stage: Stage) -> Iterator[Session]: ...


__all__ = ["Content", "HasFindings", "Prompt", "PromptSizer", "Schedule", "TokenProbe", "Workload", "WorkloadContext"]
