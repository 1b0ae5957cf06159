"""Shared prefixes: groups of prompts that begin alike, as with one system prompt for many questions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from pydantic import Field

from ..config.fields import Model
from ..config.load import Length
from ..domain.schedule import Stage, Turn
from .api import Content, WorkloadContext
from .lengths import draw
from .options import fixed, parse
from .seeds import Streams, Use, generator


class SharedPrefixOptions(Model):
    """``workload: {type: shared_prefix}``."""

    groups: int = Field(16, ge=1, description="distinct prefixes")
    prompts_per_group: int | None = Field(None, ge=1, description="distinct questions of a group; default: all differ")
    prefix_length: Length = Field(fixed(1024), description="tokens of the prefix, drawn once a group")
    question_length: Length = Field(fixed(128), description="tokens after the prefix")
    output_length: Length = fixed(128)
    share_across_stages: bool = Field(False, description="the same prefixes (and questions) in every stage")


class SharedPrefixWorkload:
    """Requests that go through the groups at random, each group's prefix being the same every time."""

    def __init__(self, context: WorkloadContext) -> None:
        self._options = parse(SharedPrefixOptions, context.options)
        self._sizer = context.sizer
        self._prefixes: dict[tuple[int, int, int], tuple[Any, int]] = {}

    def contents(self, stage: Stage, seed: int) -> Iterator[Content]:
        options, sizer = self._options, self._sizer
        scope = 0 if options.share_across_stages else stage.index + 1
        choices, questions = Streams(seed, Use.ORDER), Streams(seed, Use.PROMPT)
        for position in count():
            rng = choices.at(stage.index, position)
            group = int(rng.integers(options.groups))
            prefix, prefix_tokens = self._prefix(seed, scope, group)
            # Numbered questions have an odd first word, the others an even one, so that the two never meet.
            place = (2 * stage.index, position, 0)
            if options.prompts_per_group is not None:
                place = (2 * scope + 1, group, int(rng.integers(options.prompts_per_group)))
            output = draw(options.output_length, rng)
            question = questions.at(*place)
            tokens = draw(options.question_length, question)
            prompt = sizer.join(prefix, sizer.make(question, tokens))
            yield Content((Turn(prompt, prefix_tokens + tokens + sizer.overhead, output),))

    def _prefix(self, seed: int, scope: int, group: int) -> tuple[Any, int]:
        key = (seed, scope, group)
        if key not in self._prefixes:
            rng = generator(seed, Use.PREFIX, scope, group)
            tokens = draw(self._options.prefix_length, rng)
            self._prefixes[key] = (self._sizer.make(rng, tokens), tokens)
        return self._prefixes[key]
