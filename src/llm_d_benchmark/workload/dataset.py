"""Datasets: real prompts from JSON lines, JSON or CSV, or conversations in the ShareGPT form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, Literal

import numpy as np
from pydantic import Field

from ..config.fields import Model
from ..config.load import Length
from ..domain.errors import ConfigError
from ..domain.events import Finding, Severity
from ..domain.schedule import Prompt, Stage, Turn
from .api import Content, WorkloadContext
from .lengths import draw
from .options import parse
from .rows import Row, number, read_rows
from .seeds import Streams, Use, generator

_HUMAN, _SYSTEM = ("human", "user"), "system"


class DatasetOptions(Model):
    """``workload: {type: dataset}``."""

    path: str = Field(description="a .jsonl, .json or .csv file, also with .gz")
    prompt_field: str = Field("prompt", description="field with the prompt text")
    messages_field: str = Field("messages", description="field with chat messages {role, content}, used where present")
    conversations_field: str = Field("conversations", description="ShareGPT: field with {from, value} turns")
    output_length_field: str = Field("output_length", description="field with the output tokens to ask for")
    output_length: Length | None = Field(None, description="for rows without that field; default: the server decides")
    order: Literal["shuffle", "file"] = Field("shuffle", description="order of the rows")
    loop: bool = Field(True, description="begin again at the end; prompts then repeat and may hit caches")
    multi_turn: bool = Field(True, description="ShareGPT: replay every human turn; false: only the first")


class DatasetWorkload:
    """Requests and conversations as a file has them. The whole file is held in memory, so that it can be shuffled, and
    looked through before the first row is used: a bad one is no surprise in the middle of the load."""

    def __init__(self, context: WorkloadContext) -> None:
        self._options = parse(DatasetOptions, context.options)
        self._sizer = context.sizer
        self._endpoint = context.endpoint
        self._rows: list[tuple[str, Row]] = []
        self._silent = 0  # conversations in which no human says anything

    def findings(self) -> Sequence[Finding]:
        """What of the file was left out."""
        if not self._silent:
            return ()
        text = f"{self._options.path}: {self._silent} conversations without a human turn were left out"
        return (Finding("rows_left_out", Severity.WARNING, text),)

    def contents(self, stage: Stage, seed: int) -> Iterator[Content]:
        rows = self._load()
        lengths = Streams(seed, Use.LENGTH)
        for lap in count() if self._options.loop else (0,):
            for position, index in enumerate(self._order(seed, stage.index, lap), lap * len(rows)):
                place, row = rows[index]
                output = self._output(place, row, lengths.at(stage.index, position))
                yield Content(tuple(self._turn(p, output) for p in self._prompts(place, row)))

    def _load(self) -> list[tuple[str, Row]]:
        if not self._rows:
            for place, row in read_rows(self._options.path):
                self._output(place, row, None)
                if self._prompts(place, row):
                    self._rows.append((place, row))
                else:
                    self._silent += 1
            if not self._rows:
                raise ConfigError(f"{self._options.path} holds no rows" + " with a human turn" * bool(self._silent))
        return self._rows

    def _order(self, seed: int, stage: int, lap: int) -> Sequence[int]:
        if self._options.order == "file":
            return range(len(self._rows))
        order: list[int] = generator(seed, Use.ORDER, stage, lap).permutation(len(self._rows)).tolist()
        return order

    def _turn(self, prompt: Prompt, output: int | None) -> Turn:
        tokens = self._sizer.count(prompt) if isinstance(prompt, str) else None
        return Turn(prompt, None if tokens is None else tokens + self._sizer.overhead, output)

    def _output(self, place: str, row: Row, rng: np.random.Generator | None) -> int | None:
        """Tokens to ask for; without a generator only what the row itself says."""
        field = self._options.output_length_field
        if row.get(field) not in (None, ""):
            return number(place, row, (field,))
        length = self._options.output_length
        return None if length is None or rng is None else draw(length, rng)

    def _prompts(self, place: str, row: Row) -> list[Prompt]:
        options = self._options
        if isinstance(row.get(options.conversations_field), list):
            return self._conversation(place, row[options.conversations_field])
        if isinstance(messages := row.get(options.messages_field), list):
            for message in messages:
                if not isinstance(message, dict) or "role" not in message or "content" not in message:
                    raise ConfigError(f"{place}: each of {options.messages_field} needs role and content")
            return [tuple(messages)]
        text = row.get(options.prompt_field)
        if not isinstance(text, str) or not text:
            fields = f"{options.prompt_field}, {options.messages_field} or {options.conversations_field}"
            raise ConfigError(
                f"{place}: none of {fields} is there",
                advice=f"set workload.prompt_field; the row has {', '.join(sorted(map(str, row)))}",
            )
        return [text]

    def _conversation(self, place: str, turns: Sequence[Any]) -> list[Prompt]:
        """Human turns in order, none where no human speaks; a system turn goes with the first of them. Whoever else
        speaks (gpt, assistant, bing, ...) is the model: the answers come from the server."""
        prompts: list[Prompt] = []
        system: str | None = None
        for turn in turns:
            role = (turn.get("from") or turn.get("role")) if isinstance(turn, dict) else None
            if not isinstance(role, str):
                raise ConfigError(f"{place}: a turn needs from (human, gpt, system) and value")
            text = str(turn.get("value", turn.get("content")) or "")
            if role == _SYSTEM:
                system = text
            elif role in _HUMAN and text:
                messages = ([{"role": "system", "content": system}] if system else []) + [
                    {"role": "user", "content": text}
                ]
                prompts.append(
                    tuple(messages) if self._endpoint == "chat" else "\n".join(m["content"] for m in messages)
                )
                system = None
        return prompts if self._options.multi_turn else prompts[:1]
