"""The schedule on its way to the generator: never more than it gave credit for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from ...domain.schedule import Prompt, Session, Stage, Turn
from ..native.body import messages_of, text_of
from .books import Books
from .child import Child
from .messages import Schedule, SessionInfo, TurnInfo, encode

_BLOCK = 64
_BLOCK_BYTES = 2**20


class Feed:
    """Sends a stage's sessions as the generator takes them up."""

    def __init__(self, child: Child, stage: Stage, sessions: Iterator[Session], books: Books) -> None:
        self._child = child
        self._stage = stage
        self._sessions = sessions
        self._books = books
        self._next: Session | None = None
        self._credit = 0
        self._given = asyncio.Event()

    def credit(self, sessions: int) -> None:
        self._credit += sessions
        self._given.set()

    def next_offset_s(self) -> float | None:
        """Offset of the session that waits for credit, 0 in a closed loop; None where none waits."""
        return None if self._next is None else self._next.offset_s or 0.0

    async def run(self) -> None:
        """Until the schedule is exhausted."""
        self._next = next(self._sessions, None)
        while True:
            while not self._credit:
                self._given.clear()
                await self._given.wait()
            block: list[SessionInfo] = []
            size = 0
            while self._next is not None and len(block) < min(self._credit, _BLOCK) and size < _BLOCK_BYTES:
                self._books.handed_out(self._next)
                block.append(_session(self._next, self._stage.endpoint))
                size += _size(block[-1])
                self._next = next(self._sessions, None)
            self._credit -= len(block)
            self._child.send(Schedule(self._stage.index, block, self._next is None))
            if self._next is None:
                return
            await self._child.drain()
            await asyncio.sleep(0)  # the drain of an empty buffer does not let others run


def _session(session: Session, endpoint: str) -> SessionInfo:
    offset = None if session.offset_s is None else round(session.offset_s * 1e9)
    turns = [_turn(turn, endpoint) for turn in session.turns]
    return SessionInfo(session.session_id, session.first_request_id, session.model, turns, offset)


def _turn(turn: Turn, endpoint: str) -> TurnInfo:
    text, ids, messages = _prompt(turn.prompt, endpoint)
    return TurnInfo(text, ids, messages, turn.input_asked, turn.output_asked, turn.think_s, dict(turn.params))


def _prompt(prompt: Prompt, endpoint: str) -> tuple[str | None, list[int] | None, list[dict[str, object]] | None]:
    """Text, token ids or messages: what the native engine puts into the request for this prompt."""
    if endpoint == "chat":
        return None, None, [dict(message) for message in messages_of(prompt)]
    text = text_of(prompt)
    return (text, None, None) if isinstance(text, str) else (None, text, None)


def _size(session: SessionInfo) -> int:
    return len(encode(Schedule(0, [session], last=False)))
