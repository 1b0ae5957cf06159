"""What a cost model says of a level: its load once more, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count

import numpy as np

from ...domain.records import IntArray
from ..api import CostModel, EngineRequest, FloatArray
from ..engine import Engine, EngineLimits
from ..pace import Pace
from ..progress import Progress
from ..virtual import VirtualLoop, VirtualReplica
from .levels import Level, Performance, performance


def predict(
    level: Level, cost: CostModel, limits: EngineLimits, *, request_overhead: float = 0.0
) -> Performance | None:
    """Performance of the level's load on one replica. Of what was measured only the load enters: the lengths of its
    requests, what of them was cached, and how long a conversation paused before its next turn.

    An open loop begins its sessions when they began. In a closed loop each user takes the next one when its last one is
    over: until none is left where a number of requests was the load (the window then ends as much after the last token
    as it did), else over and over until the window ends.
    """
    sent, output, chunks = simulate(level, cost, limits, request_overhead=request_overhead)
    start, end = level.window
    if level.counted:
        end += max(float(c[-1]) for c in chunks) - float(level.last.max())
    return performance(sent, output, chunks, (start, end))


def simulate(
    level: Level,
    cost: CostModel,
    limits: EngineLimits,
    *,
    request_overhead: float = 0.0,
    noise: float = 0.0,
    seed: int = 0,
) -> tuple[FloatArray, IntArray, list[FloatArray]]:
    """Times of sending, output tokens and token times of the level's load, in the order sent; see ``predict``."""
    loop = VirtualLoop()
    times: list[float] = []
    progress: list[Progress] = []
    then: list[Callable[[], None]] = []  # what the answer to each request lets its client do

    def send(row: int, prefix: int, answered: Callable[[], None]) -> None:
        blocks = range(prefix << 32, (prefix << 32) + int(level.cached[row]) // limits.block_size)
        request = _request(level, row, len(times), blocks)
        times.append(loop.now)
        then.append(answered)
        loop.at(loop.now + request_overhead, queue, request)

    def queue(request: EngineRequest) -> None:
        progress.append(replica.submit(request))

    replica = VirtualReplica(
        Engine(limits, Pace(cost, noise=noise, seed=seed)), loop, lambda done: then[done.request.request_id]()
    )
    _Client(level, loop, send).begin()
    while loop.run(100_000):
        pass
    output: IntArray = np.array([p.request.output_tokens for p in progress], np.int64)
    return np.array(times), output, [p.token_times for p in progress]


def _request(level: Level, row: int, number: int, blocks: Sequence[int]) -> EngineRequest:
    """Its cached tokens come with it, in ``blocks`` that others may share."""
    prompt, output = int(level.prompt[row]), int(level.output[row])
    return EngineRequest(number, prompt, output, blocks, transferred_tokens=int(level.cached[row]))


Send = Callable[[int, int, Callable[[], None]], None]
"""Send a row of the level whose cached tokens are those of a prefix; call once it is answered."""


class _Client:
    """Sends the sessions of a level, each turn when the one before is answered and its pause is over.

    What a conversation finds in the cache is taken to be its own history, and what a single request finds to be one
    prefix that all of them share: the records do not tell.
    """

    def __init__(self, level: Level, loop: VirtualLoop, send: Send) -> None:
        self._level = level
        self._loop = loop
        self._send = send
        self._sessions = level.sessions
        self._taken = count()
        self._pauses = _pauses(level)
        self._thinking = _thinking(level)
        self._until = level.window[1] if level.concurrency and not level.counted else np.inf

    def begin(self) -> None:
        if self._level.concurrency:
            for _ in range(self._level.concurrency):
                self._loop.at(0.0, self._take)
            return
        for number, rows in enumerate(self._sessions):
            self._loop.at(float(self._level.sent[rows[0]]), self._turn, rows, 0, number)

    def _take(self) -> None:
        """A user is free for the next session."""
        number = next(self._taken)
        if number < len(self._sessions) or not self._level.counted:
            self._turn(self._sessions[number % len(self._sessions)], 0, number)

    def _turn(self, rows: IntArray, turn: int, number: int) -> None:
        if self._loop.now < self._until:
            prefix = number + 1 if len(rows) > 1 else 0
            self._send(int(rows[turn]), prefix, partial(self._answered, rows, turn + 1, number))

    def _answered(self, rows: IntArray, turn: int, number: int) -> None:
        if turn < len(rows):
            self._loop.at(self._loop.now + float(self._pauses[rows[turn]]), self._turn, rows, turn, number)
        elif self._level.concurrency and number not in self._thinking:
            self._take()


def _thinking(level: Level) -> set[int]:
    """Conversations of a closed loop that the end of the load met in a pause: their users began no other one.

    Each session but the first ones began as another was over, so as many as there are users had no successor.
    """
    sessions = level.sessions
    if not level.concurrency or level.counted or len(sessions) == len(level):
        return set()
    over = np.array([level.last[rows[-1]] for rows in sessions])
    return {int(i) for i in np.argsort(over)[-level.concurrency :] if over[i] < level.window[1]}


def _pauses(level: Level) -> FloatArray:
    """Seconds from the answer to the turn before until each request was sent; 0 for the first of a session."""
    pauses, last = np.zeros(len(level)), level.last
    for rows in level.sessions:
        pauses[rows[1:]] = np.maximum(level.sent[rows[1:]] - last[rows[:-1]], 0.0)
    return pauses
