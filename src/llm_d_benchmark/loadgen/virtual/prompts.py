"""From the turns of a session to what the server is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...domain.schedule import Prompt, Session, Stage
from ...simulator.cluster import Ask
from ...simulator.tokens import TokenReader, Tokens, mix
from ..native.body import messages_of

HEARD = frozenset({"max_tokens", "max_completion_tokens", "min_tokens", "ignore_eos"})
"""Request parameters that change what is simulated."""


class Dialogue:
    """A session's prompts: each turn with everything before it, the answers included."""

    def __init__(self, session: Session, stage: Stage, params: Mapping[str, Any], reader: TokenReader) -> None:
        self._session = session
        self._chat = stage.endpoint == "chat"
        self._streaming = stage.streaming
        self._params = params
        self._reader = reader
        self._messages: list[tuple[str, Tokens]] = []
        self._text = Tokens(())
        self._seed = mix(session.first_request_id)

    def ask(self, turn: int) -> Ask:
        """The request of a turn.

        Raises:
            ConfigError: token ids for the chat API.
        """
        said = self._session.turns[turn]
        asked: Mapping[str, Any] = {"max_tokens": said.output_asked}
        if self._params or said.params:
            asked = {**asked, **self._params, **said.params}
        most = asked.get("max_completion_tokens")
        return Ask(
            prompt=self._add(said.prompt),
            model=self._session.model,
            chat=self._chat,
            max_tokens=asked["max_tokens"] if most is None else most,
            min_tokens=asked.get("min_tokens") or 0,
            ignore_eos=bool(asked.get("ignore_eos")),
            session=str(self._session.session_id),
            answer_seed=self._seed + turn if turn + 1 < len(self._session.turns) else None,
            streaming=self._streaming,
        )

    def answered(self, turn: int, tokens: int) -> None:
        """The server answered a turn with so many tokens."""
        answer = self._reader.made(self._seed + turn, tokens)
        if self._chat:
            self._messages.append(("assistant", answer))
        else:
            self._text += answer

    def _add(self, prompt: Prompt) -> Tokens:
        """Tokens of the whole prompt with this turn's part at its end."""
        if self._chat:
            if isinstance(prompt, str) and len(self._session.turns) == 1:
                return self._reader.question(self._reader.text(prompt))
            self._messages += [
                (str(m.get("role", "user")), self._reader.text(_content(m))) for m in messages_of(prompt)
            ]
            return self._reader.chat(self._messages, answer=True)
        if isinstance(prompt, str):
            self._text += self._reader.text(prompt)
        elif prompt and isinstance(prompt[0], int):
            self._text = Tokens([np.asarray(prompt, np.uint64)])  # ids have no history, as with a real server
        else:
            for message in prompt:
                if isinstance(message, Mapping):
                    self._text += self._reader.text(_content(message))
        return self._text


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
