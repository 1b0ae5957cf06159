"""Synthetic prompts: random words (or token ids) of exact lengths, no two alike."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, repeat

from ..config.fields import Model
from ..config.load import Length
from ..domain.schedule import Stage, Turn
from .api import Content, WorkloadContext
from .lengths import draw
from .options import fixed, parse
from .seeds import Streams, Use


class SyntheticOptions(Model):
    """``workload: {type: synthetic}``."""

    input_length: Length = fixed(256)
    output_length: Length = fixed(128)


class SyntheticWorkload:
    """Endless single requests of the asked lengths."""

    def __init__(self, context: WorkloadContext) -> None:
        self._options = parse(SyntheticOptions, context.options)
        self._sizer = context.sizer

    def contents(self, stage: Stage, seed: int) -> Iterator[Content]:
        make, overhead, prompts = self._sizer.make, self._sizer.overhead, Streams(seed, Use.PROMPT)
        for position, (tokens, output) in enumerate(self._sizes(stage, seed)):
            # The text has a stream of its own: a replay that knows the length makes the same text.
            text = make(prompts.at(stage.index, position), max(1, tokens - overhead))
            yield Content((Turn(text, tokens, output),))

    def _sizes(self, stage: Stage, seed: int) -> Iterator[tuple[int, int]]:
        """Tokens of each prompt and of its answer."""
        asked, lengths = (self._options.input_length, self._options.output_length), Streams(seed, Use.LENGTH)
        if all(length.distribution == "fixed" for length in asked):
            rng = lengths.at(stage.index)  # of which nothing is drawn
            yield from repeat((draw(asked[0], rng), draw(asked[1], rng)))
        for position in count():
            rng = lengths.at(stage.index, position)
            yield draw(asked[0], rng), draw(asked[1], rng)
