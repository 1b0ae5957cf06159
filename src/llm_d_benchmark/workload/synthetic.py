"""Synthetic prompts: random words (or token ids) of exact lengths, no two alike."""

from __future__ import annotations

from collections.abc import Iterator

from ..config.fields import Model
from ..config.load import Length
from ..domain.schedule import Stage, Turn
from .api import Content, WorkloadContext
from .lengths import draw
from .options import fixed, parse
from .seeds import Use, generator


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
        position = 0
        while True:
            rng = generator(seed, Use.PROMPT, stage.index, position)
            length = max(draw(self._options.input_length, rng), self._sizer.overhead + 1)
            output = draw(self._options.output_length, rng)
            yield Content((Turn(self._sizer.make(rng, length - self._sizer.overhead), length, output),))
            position += 1
