"""Synthetic prompts: random words (or token ids) of exact lengths, no two alike."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

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
        options, make, overhead = self._options, self._sizer.make, self._sizer.overhead
        lengths, prompts = Streams(seed, Use.LENGTH), Streams(seed, Use.PROMPT)
        for position in count():
            rng = lengths.at(stage.index, position)
            tokens, output = draw(options.input_length, rng), draw(options.output_length, rng)
            # The text has a stream of its own: a replay that knows the length makes the same text.
            text = make(prompts.at(stage.index, position), max(1, tokens - overhead))
            yield Content((Turn(text, tokens, output),))
