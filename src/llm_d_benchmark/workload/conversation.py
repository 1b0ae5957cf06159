"""Conversations: several turns with growing history and time to think between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

import numpy as np
from pydantic import Field

from ..config.fields import Model, Seconds
from ..config.load import Length
from ..domain.errors import ConfigError
from ..domain.schedule import Prompt, Stage, Turn
from .api import Content, WorkloadContext
from .lengths import draw
from .options import fixed, parse
from .seeds import Streams, Use, generator


class ConversationOptions(Model):
    """``workload: {type: conversation}``."""

    turns: Length = Field(fixed(3), description="turns of a conversation")
    system_length: int = Field(0, ge=0, description="tokens of a system prompt that every conversation shares")
    first_length: Length | None = Field(None, description="tokens of the first message; default: input_length")
    input_length: Length = Field(fixed(128), description="tokens of each further message")
    output_length: Length = fixed(128)
    think_time: Seconds = Field(0.0, ge=0, description="mean seconds between an answer and the next message")
    think_distribution: str = Field("exponential", pattern="^(constant|exponential)$")


def expected_turns(options: Mapping[str, Any]) -> float:
    """Requests of a session of a workload, on average; 1 where it has no turns or the options do not tell."""
    if options.get("type") != "conversation":
        return 1.0
    turns, rng = parse(ConversationOptions, options).turns, np.random.default_rng(0)
    return float(turns.value or np.mean([draw(turns, rng) for _ in range(1000)]))


class ConversationWorkload:
    """Sessions of several turns; the engine puts the history, with the server's own answers, before each message."""

    def __init__(self, context: WorkloadContext) -> None:
        self._options = parse(ConversationOptions, context.options)
        self._sizer = context.sizer
        self._chat = context.endpoint == "chat"

    def contents(self, stage: Stage, seed: int) -> Iterator[Content]:
        system = self._system(seed)
        lengths, prompts = Streams(seed, Use.LENGTH), Streams(seed, Use.PROMPT)
        for position in count():
            rng, text = lengths.at(stage.index, position), prompts.at(stage.index, position)
            turns = draw(self._options.turns, rng)
            yield Content(tuple(self._turn(number, system, rng, text) for number in range(turns)))

    def _turn(self, number: int, system: str | None, rng: np.random.Generator, text: np.random.Generator) -> Turn:
        options = self._options
        length = options.first_length if number == 0 and options.first_length else options.input_length
        tokens = draw(length, rng)
        message = self._text(text, tokens)
        # Known only where no answer of the server, and no second message with a template of its own, is in the prompt.
        known = number == 0 and (system is None or not self._chat)
        return Turn(
            self._prompt(message, number, system),
            tokens + options.system_length + self._sizer.overhead if known else None,
            draw(options.output_length, rng),
            think_s=self._think(rng) if number else 0.0,
        )

    def _text(self, rng: np.random.Generator, tokens: int) -> str:
        text = self._sizer.make(rng, tokens)
        if not isinstance(text, str):
            raise ConfigError(
                "a conversation's history holds the server's answers as text, so its prompts cannot be token ids",
                advice="use 'endpoint: chat' for conversations",
            )
        return text

    def _system(self, seed: int) -> str | None:
        if not self._options.system_length:
            return None
        return self._text(generator(seed, Use.PREFIX), self._options.system_length)

    def _prompt(self, message: str, number: int, system: str | None) -> Prompt:
        if self._chat:
            first = [{"role": "system", "content": system}] if system is not None and number == 0 else []
            return (*first, {"role": "user", "content": message})
        if number:
            return "\n" + message
        return message if system is None else f"{system} {message}"

    def _think(self, rng: np.random.Generator) -> float:
        mean = self._options.think_time
        if not mean or self._options.think_distribution == "constant":
            return mean
        return float(rng.exponential(mean))
