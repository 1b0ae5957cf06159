"""Conversations: several turns with growing history and time to think between them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydantic import Field

from ..config.fields import Model, Seconds
from ..config.load import Length
from ..domain.schedule import Prompt, Stage, Turn
from .api import Content, WorkloadContext
from .lengths import draw
from .options import fixed, parse
from .seeds import Use, generator


class ConversationOptions(Model):
    """``workload: {type: conversation}``."""

    turns: Length = Field(fixed(3), description="turns of a conversation")
    system_length: int = Field(0, ge=0, description="tokens of a system prompt that every conversation shares")
    first_length: Length | None = Field(None, description="tokens of the first message; default: input_length")
    input_length: Length = Field(fixed(128), description="tokens of each further message")
    output_length: Length = fixed(128)
    think_time: Seconds = Field(0.0, ge=0, description="mean seconds between an answer and the next message")
    think_distribution: str = Field("exponential", pattern="^(constant|exponential)$")


class ConversationWorkload:
    """Sessions of several turns; the engine puts the history, with the server's own answers, before each message."""

    def __init__(self, context: WorkloadContext) -> None:
        self._options = parse(ConversationOptions, context.options)
        self._sizer = context.sizer
        self._chat = context.endpoint == "chat"

    def contents(self, stage: Stage, seed: int) -> Iterator[Content]:
        options = self._options
        system = self._system(seed)
        position = 0
        while True:
            rng = generator(seed, Use.PROMPT, stage.index, position)
            turns = []
            # Known only for the first turn: later prompts hold the server's own answers.
            for number in range(draw(options.turns, rng)):
                length = options.first_length if number == 0 and options.first_length else options.input_length
                tokens = draw(length, rng)
                text = self._sizer.make(rng, max(1, tokens))
                asked = tokens + options.system_length + self._sizer.overhead if number == 0 and not system else None
                turns.append(
                    Turn(
                        self._prompt(text, system if number == 0 else None),
                        asked,
                        draw(options.output_length, rng),
                        think_s=self._think(rng) if number else 0.0,
                    )
                )
            yield Content(tuple(turns))
            position += 1

    def _system(self, seed: int) -> str | tuple[int, ...] | None:
        if not self._options.system_length:
            return None
        return self._sizer.make(generator(seed, Use.PREFIX, 0), self._options.system_length)

    def _prompt(self, text: str | tuple[int, ...], system: str | tuple[int, ...] | None) -> Prompt:
        if not self._chat:
            return text if system is None else self._sizer.join(system, text)
        messages = [] if system is None else [{"role": "system", "content": system}]
        return (*messages, {"role": "user", "content": text})

    def _think(self, rng: np.random.Generator) -> float:
        mean = self._options.think_time
        if not mean or self._options.think_distribution == "constant":
            return mean
        return float(rng.exponential(mean))
