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
from .clock import Clock, monotonic_ns
from .http import Connection
from .openai import ApiError
from .replica import Replica
from .router_metrics import RouterMetrics
from .stream import Answer, Prefill

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
        _put(self._replica, self._max_queue, answer, request, at)
        answer.open()


class Routed:
    """Each to the replica that the router picks."""

    def __init__(
        self, config: SimulatorTargetConfig, replicas: Sequence[Replica], metrics: RouterMetrics, seed: int
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
        self.put(answer, request, at)
        answer.open()

    def put(self, answer: Answer, request: EngineRequest, at: int) -> Replica:
        """Pick a replica and give it a request as of ``at`` (monotonic ns), up to which they have caught up."""
        began = monotonic_ns()
        replica = self._by_token.get(answer.session_token or "")
        if replica is None:
            replica = self._replicas[self._router.pick(request, self._engines)]
        if self._by_token:
            answer.headers = f"{SESSION_TOKEN}: {_token_of(replica)}\r\n"
        self._metrics.picked(replica.number, (monotonic_ns() - began) * 1e-9)
        _put(replica, self._max_queue, answer, request, at)
        return replica


class Disaggregated:
    """The prompt on one replica; then its KV cache is sent to another, which makes the answer."""

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
        self._rules, self._clock, self._metrics, self._kv_bytes = rules, clock, metrics, kv_bytes_per_token
        self._decoding = replicas[rules.prefill_replicas :]
        self._prefill = Routed(config, replicas[: rules.prefill_replicas], metrics, config.seed + 1)
        self._decode = Routed(config, self._decoding, metrics, config.seed)
        self.transfers = Agenda(loop)
        for replica in self._decoding:
            replica.earlier = self._earlier

    def catch_up(self, wall: int) -> None:
        self._prefill.catch_up(wall)
        self._decode.catch_up(wall)

    def submit(self, answer: Answer, request: EngineRequest, at: int) -> None:
        part = Prefill(answer, lambda progress: self._send(answer, request, progress))
        self._prefill.put(part, replace(request, output_tokens=1, output_blocks=()), at)
        self._metrics.decisions["prefill-decode"] += 1
        answer.connection.answering = answer
        answer.gone = lambda _: self._left(answer, part)

    def _earlier(self, wall: int) -> None:
        """Prompts that were done, and transfers that arrived, before this moment."""
        self._prefill.catch_up(wall)
        self.transfers.until(wall - 1)  # at the same moment the step ends first

    def _left(self, answer: Answer, part: Prefill) -> None:
        part.client_gone()
        self._metrics.ended(answer, False)

    def _send(self, answer: Answer, request: EngineRequest, progress: Progress) -> None:
        assert progress.last_token is not None
        there = max(replica.engine.cached_prefix(request) for replica in self._decoding)
        size = (request.prompt_tokens - there) * self._kv_bytes
        seconds = self._rules.transfer_latency + size / self._rules.transfer_bandwidth
        at = self._clock.wall(progress.last_token + seconds)
        arriving = self.transfers.at(at, lambda: self._arrived(answer, request, at, size, seconds / self._clock.speed))

        def left(_: Answer) -> None:
            self.transfers.cancel(arriving)
            self._metrics.ended(answer, False)

        answer.gone = left

    def _arrived(self, answer: Answer, request: EngineRequest, at: int, size: float, took: float) -> None:
        self._decode.catch_up(at)
        try:
            replica = self._decode.put(answer, replace(request, transferred_tokens=request.prompt_tokens), at)
        except ApiError as error:
            self._metrics.ended(answer, False)
            refuse(answer.connection, error)
        else:
            replica.metrics.transfer_time.observe(took)
            replica.metrics.transfer_bytes.observe(size)
            answer.open()


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
        arriving = self.arrivals.at(due, lambda: self._arrived(answer, request, due))

        def left(_: Answer) -> None:
            self.arrivals.cancel(arriving)
            _lost(answer)

        answer.connection.answering = answer
        answer.gone = left

    def _arrived(self, answer: Answer, request: EngineRequest, at: int) -> None:
        self._dispatcher.catch_up(at)
        try:
            self._dispatcher.submit(answer, request, at)
        except ApiError as error:
            _lost(answer)
            refuse(answer.connection, error)


class Agenda:
    """Calls at monotonic times, on one alarm."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._alarm = PreciseTimer(loop, self._ring)
        self._order = count()
        self._due: list[tuple[int, int]] = []
        self._calls: dict[int, Callable[[], None]] = {}

    def at(self, wall: int, call: Callable[[], None]) -> int:
        """Call at ``wall``; gives a number to cancel it by."""
        number = next(self._order)
        self._calls[number] = call
        heapq.heappush(self._due, (wall, number))
        self._alarm.set(self._due[0][0])
        return number

    def cancel(self, number: int) -> None:
        self._calls.pop(number, None)

    def close(self) -> None:
        self._alarm.close()

    def _ring(self) -> None:
        self.until(monotonic_ns())

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


def _put(replica: Replica, max_queue: int | None, answer: Answer, request: EngineRequest, at: int) -> None:
    waiting = replica.engine.waiting
    if max_queue is not None and waiting >= max_queue:
        replica.metrics.rejected += 1
        raise ApiError(429, f"{waiting} requests wait already (failures.max_queue)", "TooManyRequestsError")
    try:
        replica.submit(answer, request, at)
    except ConfigError as error:
        raise ApiError(400, error.message) from None


def refuse(connection: Connection, error: ApiError) -> None:
    """Answer with an error; a full queue asks the client to come again."""
    headers = f"retry-after: {RETRY_AFTER_S}\r\n" if error.status == 429 else ""
    connection.reply_json(error.status, error.body, headers=headers)


def _lost(answer: Answer) -> None:
    """It ends before a replica has it."""
    if answer.ended is not None:
        answer.ended(answer, False)
