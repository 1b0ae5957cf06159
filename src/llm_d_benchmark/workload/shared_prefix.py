"""Shared prefixes: groups of prompts that begin alike, as with one system prompt for many questions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from ..config.fields import Model
from ..config.load import Length
from ..domain.schedule import Stage, Turn
from .api import Content, WorkloadContext
from .lengths import draw
from .options import fixed, parse
from .seeds import Use, generator


class SharedPrefixOptions(Model):
    """``workload: {type: shared_prefix}``."""

    groups: int = Field(16, ge=1, description="distinct prefixes")
    prompts_per_group: int | None = Field(None, ge=1, description="distinct questions of a group; default: all differ")
    prefix_length: Length = Field(fixed(1024), description="tokens of the prefix, drawn once a group")
    question_length: Length = Field(fixed(128), description="tokens after the prefix")
    output_length: Length = fixed(128)
    share_across_stages: bool = Field(False, description="the same prefixes (and questions) in every stage")
    input_length: Length | None = Field(None, description="not used here: the two lengths above make the prompt")


class SharedPrefixWorkload:
    """Requests that go through the groups at random, each group's prefix being the same every time."""

    def __init__(self, context: WorkloadContext) -> None:
        options = {k: v for k, v in context.options.items() if k != "input_length"}
        self._options = parse(SharedPrefixOptions, options)
        self._sizer = context.sizer
        self._prefixes: dict[tuple[int, int, int], tuple[Any, int]] = {}

    def contents(self, stage: Stage, seed: int) -> Iterator[Content]:
        scope = 0 if self._options.share_across_stages else stage.index + 1
        position = 0
        while True:
            rng = generator(seed, Use.ORDER, stage.index, position)
            group = int(rng.integers(self._options.groups))
            prefix, prefix_tokens = self._prefix(seed, scope, group)
            question_rng, question_scope = rng, None
            if self._options.prompts_per_group is not None:
                question_scope = int(rng.integers(self._options.prompts_per_group))
                question_rng = generator(seed, Use.PROMPT, scope, group, question_scope)
            tokens = draw(self._options.question_length, question_rng)
            prompt = self._sizer.join(prefix, self._sizer.make(question_rng, tokens))
            asked = prefix_tokens + tokens + self._sizer.overhead
            yield Content((Turn(prompt, asked, draw(self._options.output_length, rng)),))
            position += 1

    def _prefix(self, seed: int, scope: int, group: int) -> tuple[Any, int]:
        key = (seed, scope, group)
        if key not in self._prefixes:
            rng = generator(seed, Use.PREFIX, scope, group)
            tokens = draw(self._options.prefix_length, rng)
            self._prefixes[key] = (self._sizer.make(rng, tokens), tokens)
        return self._prefixes[key]
