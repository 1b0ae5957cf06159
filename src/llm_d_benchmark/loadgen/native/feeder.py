"""The schedule of one worker for one stage, encoded in blocks ahead of need."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from ...domain.endpoint import Endpoint
from ...domain.errors import ConfigError
from ...domain.schedule import Load, Session, Shard, Stage
from .body import PATHS, body, envelope, request_head
from .wire import Feed, Item

FIRST_BLOCK = 64
MAX_BLOCK = 128
BLOCK_BYTES = 2**20


class Feeder:
    """Turns sessions into items, in blocks so small that neither side stops for one."""

    def __init__(
        self, sessions: Iterator[Session], stage: Stage, endpoint: Endpoint, params: Mapping[str, Any]
    ) -> None:
        self._sessions = sessions
        self._stage = stage
        self._params = params
        self._head = request_head(endpoint, PATHS[stage.endpoint])
        self._block = FIRST_BLOCK
        self.exhausted = False

    def next(self) -> Feed:
        items: list[Item] = []
        size = 0
        while len(items) < self._block and size < BLOCK_BYTES:
            session = next(self._sessions, None)
            if session is None:
                self.exhausted = True
                break
            items.append(self._item(session))
            size += len(items[-1].request)
        self._block = min(MAX_BLOCK, self._block * 2)
        return Feed(items, self.exhausted)

    def _item(self, session: Session) -> Item:
        first, talks = session.turns[0], len(session.turns) > 1
        request = body(
            first,
            model=session.model,
            endpoint=self._stage.endpoint,
            streaming=self._stage.streaming,
            params=self._params,
        )
        return Item(
            request_id=session.first_request_id,
            session=session.session_id,
            offset_ns=None if session.offset_s is None else round(session.offset_s * 1e9),
            model=session.model,
            request=envelope(self._head, request, session.session_id if talks else None),
            input_asked=first.input_asked,
            output_asked=first.output_asked,
            turns=tuple(session.turns) if talks else (),
        )


def bounded(sessions: Iterator[Session], num_requests: int | None) -> Iterator[Session]:
    """The first sessions of a schedule that make ``num_requests`` requests; the last one is cut to fit."""
    left = num_requests
    for session in sessions:
        if left is None:
            yield session
            continue
        if left <= 0:
            return
        turns = session.turns[:left]
        left -= len(turns)
        yield (
            session
            if len(turns) == len(session.turns)
            else Session(session.session_id, session.first_request_id, turns, session.model, session.offset_s)
        )


def streams(load: Load, shard: Shard) -> int | None:
    """One machine's part of the concurrency of a load; None where that has none.

    Raises:
        ConfigError: this machine would have no stream.
    """
    found = None if load.concurrency is None else shard.share(load.concurrency)
    if found == 0:
        raise ConfigError(
            f"a concurrency of {load.concurrency} cannot be shared by {shard.count} shards",
            advice="use fewer shards, or a concurrency of at least one for each",
        )
    return found


class Dealer:
    """Deals the sessions of one machine's shard out to its workers, by the one partition of domain.schedule.Shard."""

    def __init__(self, sessions: Iterator[Session], users: int | None, shard: Shard, workers: int) -> None:
        self._sessions = enumerate(sessions)
        self._users = users
        self._shards = shard.split(workers)
        self._dealt: list[deque[Session]] = [deque() for _ in range(workers)]

    def hand(self, worker: int) -> Iterator[Session]:
        """The sessions of one worker, in order."""
        dealt = self._dealt[worker]
        while True:
            while not dealt:
                if (entry := next(self._sessions, None)) is None:
                    return
                position, session = entry
                for shard, hand in zip(self._shards, self._dealt, strict=True):
                    if shard.owns(position, self._users):
                        hand.append(session)
            yield dealt.popleft()
