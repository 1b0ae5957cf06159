"""A simulated deployment in virtual time: a router before replicas, with what goes wrong on purpose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np

from ..config.simulator import SimulatorTargetConfig
from .api import EngineRequest, FloatArray
from .fleet import build_engines
from .profiles import Profile
from .progress import Progress
from .router import Router
from .server.fate import Fate, Fates
from .tokens import BlockHasher, TokenReader, Tokens
from .transfer import KvLink
from .virtual import Timer, VirtualLoop, VirtualReplica

REFUSAL_S = 0.001
"""Until a refusal is answered; in no time at all a closed loop against a server that refuses would never get on."""
RETRY_AFTER_S = 1.0
"""Asked for with every 429."""
COMPLETION_TOKENS = 16
"""Of a completion that sets no max_tokens; a chat answer may fill the context. As vLLM has it."""


@dataclass(slots=True)
class Ask:
    """A request as it reaches the server.

    Attributes:
        prompt: template included.
        answer_seed: the answer's tokens are those of this seed (see ``TokenReader.made``), where a later prompt will
            contain them.
    """

    prompt: Tokens
    model: str
    chat: bool
    max_tokens: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    session: str | None = None
    answer_seed: int | None = None
    streaming: bool = True


@dataclass(slots=True)
class Reply:
    """What came back.

    Attributes:
        status: HTTP status.
        times: when each token came, seconds.
        cut: the connection broke before the end.
        retry_after: seconds that the server asks to wait.
        reason: finish_reason of a whole answer.
    """

    status: int
    times: FloatArray = field(default_factory=lambda: np.empty(0))
    cached_tokens: int = 0
    cut: bool = False
    reason: str = "length"
    retry_after: float | None = None


@dataclass(slots=True, eq=False)
class Exchange:
    """A request under way."""

    done: Callable[[Reply], None]
    request: EngineRequest
    fate: Fate
    tokens: int
    reason: str
    progress: Progress | None = None
    replica: VirtualReplica | None = None
    cached_tokens: int = 0
    prefilling: bool = False
    reply: Reply | None = None
    timer: Timer | None = None


class Cluster:
    """The replicas of a configuration behind their router. ``send`` and ``cancel`` happen at ``loop.now``."""

    def __init__(self, config: SimulatorTargetConfig, profile: Profile, loop: VirtualLoop) -> None:
        self.profile = profile
        self.loop = loop
        self.reader = TokenReader()
        self._config = config
        self._fates = Fates(config)
        self._numbers = count()
        self._unseen = -1  # the next name of a block of an answer that no later prompt contains
        self._live: dict[int, Exchange] = {}
        self._hasher = BlockHasher(config.block_size) if config.enable_prefix_caching else None
        self.replicas = [VirtualReplica(e, loop, self._finished) for e in build_engines(config, profile)]
        split = config.disaggregation.prefill_replicas if config.disaggregation else 0
        self._prefill, self._decode = self.replicas[:split], self.replicas[split:]
        self._link = KvLink(config.disaggregation, profile.kv_bytes_per_token) if config.disaggregation else None
        self._router = Router(config.router, config.seed)
        self._prefill_router = Router(config.router, config.seed + 1)

    def generated(self) -> int:
        """Tokens of answers made until now."""
        return sum(r.generated() for r in self._decode)

    def first_token(self, exchange: Exchange) -> bool:
        """Whether a token of it has come by now."""
        return exchange.reply is not None or bool(len(self._times(exchange)))

    def send(self, ask: Ask, done: Callable[[Reply], None]) -> Exchange | None:
        """A request arrives at the router; ``done`` is called when it has been answered. None where it is refused
        at once."""
        limit = self._room(ask)
        if limit is None:
            self._refuse(404 if ask.model != self.profile.model else 400, done)
            return None
        number = next(self._numbers)
        fate = self._fates.next(limit, streaming=ask.streaming)
        if fate.http_429 or fate.http_500:
            self._refuse(429 if fate.http_429 else 500, done)
            return None
        tokens, reason = limit, "length"
        if fate.length is not None and not ask.ignore_eos and fate.length < tokens:
            tokens, reason = max(1, fate.length, ask.min_tokens), "stop"
        exchange = Exchange(done, self._request(number, ask, tokens), fate, tokens, reason)
        if tokens == 1:
            exchange.fate = Fate()
        if self.profile.request_overhead:
            at = self.loop.now + self.profile.request_overhead
            exchange.timer = self.loop.at(at, self._arrived, exchange)
            return exchange
        if self._submit(exchange):
            return exchange
        self._refuse(429, done)
        return None

    def cancel(self, exchange: Exchange) -> FloatArray:
        """The client goes away; the times of the tokens it got until now."""
        self._live.pop(exchange.request.request_id, None)
        if exchange.timer is not None:
            self.loop.cancel(exchange.timer)
        times = self._times(exchange)
        if exchange.replica is not None:
            if exchange.progress is not None:
                exchange.replica.abort(exchange.progress)
            else:
                exchange.replica.engine.coming -= 1
        return times

    def _room(self, ask: Ask) -> int | None:
        """Tokens the answer may have; None where vLLM refuses the request."""
        room = self.profile.max_model_len - len(ask.prompt)
        wanted = ask.max_tokens
        if wanted is None:
            wanted = room if ask.chat else min(COMPLETION_TOKENS, room)
        sound = len(ask.prompt) > 0 and 0 <= ask.min_tokens <= wanted <= room and wanted > 0
        return wanted if sound and ask.model == self.profile.model else None

    def _refuse(self, status: int, done: Callable[[Reply], None]) -> None:
        reply = Reply(status, retry_after=RETRY_AFTER_S if status == 429 else None)
        self.loop.at(self.loop.now + REFUSAL_S, done, reply)

    def _request(self, number: int, ask: Ask, tokens: int) -> EngineRequest:
        blocks: list[int] = []
        filled: Sequence[int] = ()
        if self._hasher is not None:
            prompt, size = ask.prompt, self._config.block_size
            full = len(prompt) // size
            if ask.answer_seed is not None:
                blocks = self._hasher(prompt + self.reader.made(ask.answer_seed, tokens))
                blocks, filled = blocks[:full], blocks[full:]
            else:
                # Names that no prompt has: they keep their place in the cache as those of any other answer do.
                blocks = self._hasher(prompt)
                filled = range(self._unseen, self._unseen - ((len(prompt) + tokens) // size - full), -1)
                self._unseen = filled.stop
        unseen = ask.answer_seed is None
        return EngineRequest(number, len(ask.prompt), tokens, blocks, ask.session, filled, output_unseen=unseen)

    def _submit(self, exchange: Exchange) -> bool:
        """Give a request to the first replica that works on it; False where its queue is full."""
        prefill = bool(self._prefill)
        replica = self._pick(exchange.request, prefill)
        if replica is None:
            return False
        self._put(exchange, replica, prefill)
        return True

    def _pick(self, request: EngineRequest, prefill: bool) -> VirtualReplica | None:
        """The replica for a request; None where its queue is full."""
        router, replicas = (self._prefill_router, self._prefill) if prefill else (self._router, self._decode)
        replica = replicas[router.pick(request, replicas)]
        queue = self._config.failures.max_queue
        return None if queue is not None and replica.engine.overflow >= queue else replica

    def _put(self, exchange: Exchange, replica: VirtualReplica, prefill: bool, transferred: int = 0) -> None:
        request = exchange.request
        tokens = exchange.tokens
        if prefill:
            tokens = 1
        elif exchange.fate.cut:
            tokens = trouble_at(tokens)  # the client is gone with that token
        sent = request
        if tokens != request.output_tokens or transferred:
            filled = () if prefill else request.output_blocks
            sent = replace(request, output_tokens=tokens, output_blocks=filled, transferred_tokens=transferred)
        self._live[request.request_id] = exchange
        exchange.prefilling, exchange.replica = prefill, replica
        exchange.progress = replica.submit(sent)

    def _finished(self, progress: Progress) -> None:
        exchange = self._live.get(progress.request.request_id)
        if exchange is None:
            return  # cancelled during the step that finished it
        if exchange.prefilling:
            self._transfer(exchange, progress)
            return
        del self._live[progress.request.request_id]
        exchange.replica = None
        if exchange.progress is None or not self._prefill:
            exchange.cached_tokens = progress.cached_tokens
        times, fate = progress.token_times, exchange.fate
        if fate.stall:
            times = stalled(times, exchange.tokens, self._config.failures.stall_time)
        if fate.cut:
            reply = Reply(200, times[:-1], exchange.cached_tokens, cut=True)
        else:
            reply = Reply(200, times, exchange.cached_tokens, reason=exchange.reason)
        end = float(times[-1])
        if end <= self.loop.now:
            exchange.done(reply)
        else:
            exchange.reply, exchange.timer = reply, self.loop.at(end, exchange.done, reply)

    def _transfer(self, exchange: Exchange, progress: Progress) -> None:
        """Send the KV cache of a prompt to the replica that decodes."""
        assert self._link is not None
        exchange.cached_tokens = progress.cached_tokens
        exchange.progress = None
        exchange.replica = self._pick(exchange.request, prefill=False)
        if exchange.replica is None:
            self._turn_away(exchange)
            return
        exchange.replica.engine.coming += 1
        _, seconds = self._link.transfer(exchange.request, exchange.replica)
        exchange.timer = self.loop.at(self.loop.now + seconds, self._transferred, exchange)

    def _transferred(self, exchange: Exchange) -> None:
        replica, exchange.timer = exchange.replica, None
        assert replica is not None
        replica.engine.coming -= 1
        self._put(exchange, replica, prefill=False, transferred=exchange.request.prompt_tokens)

    def _arrived(self, exchange: Exchange) -> None:
        """What the server does before it queues a request is done."""
        exchange.timer = None
        if not self._submit(exchange):
            self._turn_away(exchange)

    def _turn_away(self, exchange: Exchange) -> None:
        self._live.pop(exchange.request.request_id, None)
        exchange.done(Reply(429, retry_after=RETRY_AFTER_S))

    def _times(self, exchange: Exchange) -> FloatArray:
        """Token times until now, as the client sees them."""
        if exchange.reply is not None:
            times = exchange.reply.times
        elif exchange.prefilling or exchange.replica is None or exchange.progress is None:
            return np.empty(0)
        else:
            times = exchange.replica.times(exchange.progress)
            if exchange.fate.stall:
                times = stalled(times, exchange.tokens, self._config.failures.stall_time)
        return times[times <= self.loop.now]


def trouble_at(tokens: int) -> int:
    """The token (from 1) with which an answer stalls, or before which its connection is cut; of at least 2."""
    return tokens // 2


def stalled(times: FloatArray, tokens: int, seconds: float) -> FloatArray:
    """Token times of an answer of ``tokens`` that stalls: what is made during the stall comes at its end."""
    first = trouble_at(tokens) - 1
    if first >= len(times):
        return times
    times = times.copy()
    times[first:] = np.maximum(times[first:], times[first] + seconds)
    return times
