"""Where a request goes: to the replica of its endpoint, to the one that the router picks, or first to one that
prefills and then to one that decodes."""

from __future__ import annotations

import asyncio
import base64
import heapq
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from typing import Protocol

from ...config.simulator import DisaggregationConfig, SimulatorTargetConfig
from ...domain.errors import ConfigError
from ...domain.timer import PreciseTimer
from ..api import EngineRequest
from ..progress import Progress
from ..router import Router
from ..transfer import KvLink
from .clock import Clock, monotonic_ns
from .http import Connection
from .openai import ApiError
from .replica import Replica
from .router_metrics import RouterMetrics
from .stream import LEFT, Answer, Prefill

RETRY_AFTER_S = 1
SESSION_TOKEN = "x-session-token"
"""The header that names the replica of a session's turn, to the client and by it: the llm-d router's default."""


class Dispatcher(Protocol):
    """Takes requests for replicas."""

    def catch_up(self, wall: int) -> None:
        """Let every replica do what was due before this moment (monotonic ns)."""
        ...

    def submit(self, answer: Answer, request: EngineRequest, at: int) -> None:
        """Begin to answer as of ``at`` (monotonic ns), up to which ``catch_up`` has been called; ``answer.open`` has
        been or will be called.

        Raises:
            ApiError: it cannot be taken.
        """
        ...


class Direct:
    """Everything to one replica."""

    def __init__(self, replica: Replica, max_queue: int | None) -> None:
        self._replica, self._max_queue = replica, max_queue

    def catch_up(self, wall: int) -> None:
        self._replica.catch_up(wall)

    def submit(self, answer: Answer, request: EngineRequest, at: int) -> None:
        _check_queue(self._replica, self._max_queue)
        _put(self._replica, answer, request, at)
        answer.open()


class Routed:
    """Each to the replica that the router picks.

    Args:
        metrics: hear of each pick; None where another one follows, which tells of the request.
    """

    def __init__(
        self, config: SimulatorTargetConfig, replicas: Sequence[Replica], metrics: RouterMetrics | None, seed: int
    ) -> None:
        self._replicas, self._metrics = replicas, metrics
        self._engines = [replica.engine for replica in replicas]
        self._router = Router(config.router, seed)
        self._max_queue = config.failures.max_queue
        affine = config.router.policy == "session_affinity"
        self._by_token = {_token_of(replica): replica for replica in replicas} if affine else {}

    def catch_up(self, wall: int) -> None:
        for replica in self._replicas:
            replica.catch_up(wall)

    def submit(self, answer: Answer, request: EngineRequest, at: int) -> None:
        _put(self.pick(answer, request), answer, request, at)
        answer.open()

    def pick(self, answer: Answer, request: EngineRequest) -> Replica:
        """The replica for a request, by the state up to which all have caught up.

        Raises:
            ApiError: its queue is full.
        """
        began = monotonic_ns()
        replica = self._by_token.get(answer.session_token or "")
        if replica is None:
            replica = self._replicas[self._router.pick(request, self._engines)]
        if self._by_token:
            answer.headers = f"{SESSION_TOKEN}: {_token_of(replica)}\r\n"
        if self._metrics is not None:
            self._metrics.picked(replica.number, (monotonic_ns() - began) * 1e-9)
        _check_queue(replica, self._max_queue)
        return replica


class Disaggregated:
    """The prompt on one replica; then its KV cache is sent to another, which makes the answer and is picked when the
    prompt is done."""

    def __init__(
        self,
        config: SimulatorTargetConfig,
        rules: DisaggregationConfig,
        replicas: Sequence[Replica],
        metrics: RouterMetrics,
        *,
        kv_bytes_per_token: float,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._clock, self._metrics, self._link = clock, metrics, KvLink(rules, kv_bytes_per_token)
        prefilling, decoding = replicas[: rules.prefill_replicas], replicas[rules.prefill_replicas :]
        self._prefill = Routed(config, prefilling, None, config.seed + 1)
        self._decode = Routed(config, decoding, metrics, config.seed)
        self.transfers = Agenda(loop, self._prefill.catch_up)
        for replica in decoding:
            replica.earlier = self._earlier

    def catch_up(self, wall: int) -> None:
        self._prefill.catch_up(wall)
        self._decode.catch_up(wall)

    def submit(self, answer: Answer, request: EngineRequest, at: int) -> None:
        part = Prefill(answer, lambda progress: self._computed(answer, request, progress))
        _put(self._prefill.pick(part, request), part, replace(request, output_tokens=1, output_blocks=()), at)
        self._metrics.decisions["prefill-decode"] += 1
        answer.connection.answering = answer
        answer.gone = lambda _: self._left(answer, part)

    def _earlier(self, wall: int) -> None:
        """Prompts that were done, and transfers that arrived, before this moment."""
        self._prefill.catch_up(wall)
        self.transfers.until(wall - 1)  # at the same moment the step ends first

    def _left(self, answer: Answer, part: Prefill) -> None:
        part.client_gone()
        _over(answer, LEFT)

    def _computed(self, answer: Answer, request: EngineRequest, progress: Progress) -> None:
        """A prompt is done. What follows is in the order of times, so that a late machine picks as a punctual one."""
        assert progress.last_token is not None
        done = progress.last_token
        self.transfers.of(answer, self._clock.wall(done), lambda: self._send(answer, request, done))

    def _send(self, answer: Answer, request: EngineRequest, done: float) -> None:
        self._decode.catch_up(self._clock.wall(done))
        try:
            replica = self._decode.pick(answer, request)
        except ApiError as error:
            _turn_away(answer, error)
            return
        size, seconds = self._link.transfer(request, replica.engine)
        replica.engine.coming += 1

        def off_the_way() -> None:
            replica.engine.coming -= 1

        def arrived() -> None:
            self._decode.catch_up(at)
            off_the_way()
            replica.metrics.transfer_time.observe(seconds / self._clock.speed)
            replica.metrics.transfer_bytes.observe(size)
            _put(replica, answer, replace(request, transferred_tokens=request.prompt_tokens), at)
            answer.open()

        at = self._clock.wall(done + seconds)
        self.transfers.of(answer, at, arrived, off_the_way)


class Delayed:
    """Each to another dispatcher, ``seconds`` of real time after it came: what a server does before it queues a request
    (HTTP, tokenizing). A full queue is told then."""

    def __init__(self, dispatcher: Dispatcher, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        self._dispatcher, self._delay = dispatcher, round(seconds * 1e9)
        self.arrivals = Agenda(loop)

    def catch_up(self, wall: int) -> None:
        self._dispatcher.catch_up(wall)

    def submit(self, answer: Answer, request: EngineRequest, at: int) -> None:
        due = at + self._delay
        answer.connection.answering = answer
        self.arrivals.of(answer, due, lambda: self._arrived(answer, request, due))

    def _arrived(self, answer: Answer, request: EngineRequest, at: int) -> None:
        self._dispatcher.catch_up(at)
        try:
            self._dispatcher.submit(answer, request, at)
        except ApiError as error:
            _turn_away(answer, error)


class Agenda:
    """Calls at monotonic times, on one alarm.

    Args:
        first: called with the moment before calls that are due by then, as it may add some.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, first: Callable[[int], None] | None = None) -> None:
        self._alarm = PreciseTimer(loop, self._ring)
        self._first = first
        self._order = count()
        self._due: list[tuple[int, int]] = []
        self._calls: dict[int, Callable[[], None]] = {}

    def of(self, answer: Answer, wall: int, call: Callable[[], None], left: Callable[[], None] | None = None) -> None:
        """Call at ``wall`` unless the client leaves before: then its answer is over, and ``left`` is called."""
        number = next(self._order)
        self._calls[number] = call
        heapq.heappush(self._due, (wall, number))
        self._alarm.set(self._due[0][0])

        def gone(_: Answer) -> None:
            self._calls.pop(number, None)
            if left is not None:
                left()
            _over(answer, LEFT)

        answer.gone = gone

    def close(self) -> None:
        self._alarm.close()

    def _ring(self) -> None:
        now = monotonic_ns()
        if self._first is not None:
            self._first(now)
        self.until(now)

    def until(self, wall: int) -> None:
        """Make the calls that are due by then, if the alarm has not been heard yet."""
        while self._due and self._due[0][0] <= wall:
            call = self._calls.pop(heapq.heappop(self._due)[1], None)
            if call is not None:
                call()
        if self._due:
            self._alarm.set(self._due[0][0])


def _token_of(replica: Replica) -> str:
    """As the llm-d router makes it: namespace and name of the pod in base64."""
    return base64.b64encode(b"simulator/replica-%d" % replica.number).decode("ascii")


def _check_queue(replica: Replica, max_queue: int | None) -> None:
    if max_queue is not None and replica.engine.overflow >= max_queue:
        replica.metrics.rejected += 1
        message = f"as many requests wait for a place as may (failures.max_queue: {max_queue})"
        raise ApiError(429, message, "TooManyRequestsError")


def _put(replica: Replica, answer: Answer, request: EngineRequest, at: int) -> None:
    """Give a request to a replica as of ``at`` (monotonic ns), up to which it has caught up."""
    try:
        replica.submit(answer, request, at)
    except ConfigError as error:
        raise ApiError(400, error.message) from None


def refuse(connection: Connection, error: ApiError) -> None:
    """Answer with an error; a full queue asks the client to come again."""
    headers = f"retry-after: {RETRY_AFTER_S}\r\n" if error.status == 429 else ""
    connection.reply_json(error.status, error.body, headers=headers)


def _turn_away(answer: Answer, error: ApiError) -> None:
    """Answer a request with an error after it was taken."""
    _over(answer, error.status)
    refuse(answer.connection, error)


def _over(answer: Answer, status: int) -> None:
    """It ends before a replica has it."""
    if answer.ended is not None:
        answer.ended(answer, status)
