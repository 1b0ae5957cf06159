"""One engine on the real clock: each step's tokens are written when the model says that the step has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ...domain.timer import PreciseTimer
from ..api import EngineRequest
from ..engine import Engine
from ..progress import Progress
from .clock import Clock, monotonic_ns
from .stream import LEFT, Answer
from .vllm_metrics import EngineState, VllmMetrics


class Replica:
    """Drives an engine. A step begins when the one before has ended by the model's clock, however late its tokens were
    written: lateness does not add up, and ``metrics.lateness`` tells it.

    Args:
        cache_config: labels of vllm:cache_config_info.
        receives: KV caches from replicas that prefill.
    """

    def __init__(
        self,
        number: int,
        engine: Engine,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        *,
        model: str,
        max_model_len: int,
        cache_config: dict[str, str],
        receives: bool = False,
    ) -> None:
        self.number, self.engine = number, engine
        self.metrics = VllmMetrics(model, number, max_model_len, self.state, cache_config, receives=receives)
        self._clock = clock
        self._answers: dict[int, Answer] = {}
        self._left: list[int] = []
        self._ready: list[tuple[Answer, Callable[[bytes], None], bytes]] = []
        self._others: list[Answer] = []
        self._end: float | None = None  # of the step under way
        self._alarm = PreciseTimer(loop, self._due)
        self.earlier: Callable[[int], None] | None = None
        """Brings what is due here before a moment (monotonic ns), so that no step passes it on a late machine."""

    def state(self) -> EngineState:
        """What a scrape shows."""
        engine = self.engine
        cached = engine.limits.enable_prefix_caching
        return EngineState(
            running=engine.running,
            waiting=engine.waiting,
            coming=engine.coming,
            kv_usage=engine.kv_usage(),
            preemptions=engine.preemptions,
            prefix_queries=engine.prompt_tokens if cached else 0,
            prefix_hits=engine.cached_tokens,
        )

    @property
    def routed(self) -> int:
        """Requests under way that came through the router."""
        return sum(answer.routed for answer in self._answers.values())

    def submit(self, answer: Answer, request: EngineRequest, at: int) -> None:
        """Put a request into the engine's queue as of ``at`` (monotonic ns), for which ``catch_up`` has been called.

        Raises:
            ConfigError: it is longer than the whole KV cache.
        """
        arrived = self._clock.model(at)
        self.engine.submit(request, arrived)
        answer.here = at
        self._answers[request.request_id] = answer
        answer.gone = self._gone
        if self._end is None:
            self._begin(arrived)
            self._set_alarm()

    def catch_up(self, wall: int) -> None:
        """Finish the steps that ended before this moment (monotonic ns), if their alarm has not been heard yet."""
        before = self._end
        while self._end is not None and self._clock.wall(self._end) <= wall:
            self._emit(self._end)
        if self._end != before:
            self._set_alarm()

    def close(self) -> None:
        self._alarm.close()

    def _gone(self, answer: Answer) -> None:
        if self._answers.pop(answer.request_id, None) is None:
            return
        self._ready = [entry for entry in self._ready if entry[0] is not answer]
        self._others = [other for other in self._others if other is not answer]
        self.metrics.finished["abort"] += 1
        if self._end is None:
            self.engine.abort(answer.request_id)
        else:
            self._left.append(answer.request_id)  # the engine lets go of it between two steps
        if answer.ended is not None:
            answer.ended(answer, LEFT)

    def _begin(self, now: float) -> None:
        engine = self.engine
        while self._left:
            engine.abort(self._left.pop())
        ends = engine.begin(now, 1)
        if ends is None:
            self._end = None
            return
        self._end = float(ends[0])
        self._prepare()

    def _set_alarm(self) -> None:
        if self._end is not None:
            self._alarm.set(self._clock.wall(self._end))

    def _due(self) -> None:
        before = self._end
        self.catch_up(monotonic_ns())
        if self._end == before:  # it rang too early
            self._set_alarm()

    def _prepare(self) -> None:
        """Encode what can be before the step under way has ended: the tokens of streams that go on after it."""
        self._ready, self._others = [], []
        for request_id in self.engine.decoding:
            answer = self._answers.get(request_id)
            if answer is None or answer.count + 1 == answer.output_tokens:
                continue  # its client has left, or the end of the answer goes with this token
            if answer.plain:
                self._ready.append((answer, answer.write, answer.next_event()))
            else:
                self._others.append(answer)

    def _emit(self, end: float) -> None:
        """Write the tokens of the step that has ended, and begin the next."""
        due, metrics, answers = self._clock.wall(end), self.metrics, self._answers
        if self.earlier is not None:
            self.earlier(due)
        tokens, prompts = self._decoded(due), 0
        first, finished = self.engine.end(1)
        done = {progress.request.request_id for progress in finished}
        for progress in first:
            if (answer := answers.get(progress.request.request_id)) is not None:
                tokens += progress.request.request_id not in done
                prompts += self._prefilled(answer, progress, done, due)
        ended = []
        for progress in finished:
            if (answer := answers.pop(progress.request.request_id, None)) is not None:
                tokens += 1
                answer.last_token(progress)
                self._stamp(answer, due)
                ended.append((answer, progress))
        for answer, progress in ended:  # once nobody waits for a token
            self._finished(answer, progress)
        metrics.prompt_tokens += prompts
        metrics.generation_tokens += tokens
        metrics.iteration.observe(prompts + tokens)
        metrics.fold_if_long()
        self._begin(end)

    def _decoded(self, due: int) -> int:
        """Write the tokens that were prepared, nothing else in between; how many."""
        ready, stamps = self._ready, list[int]()
        for _, write, data in ready:
            write(data)
            stamps.append(monotonic_ns())
        self.metrics.itl.observe_all([(now - e[0].last) * 1e-9 for e, now in zip(ready, stamps, strict=True)])
        self.metrics.lateness.observe_all([(now - due) * 1e-9 for now in stamps])
        for entry, now in zip(ready, stamps, strict=True):
            entry[0].last = now
        others = self._others
        for answer in others:
            answer.token()
            self._stamp(answer, due)
        return len(ready) + len(others)

    def _prefilled(self, answer: Answer, progress: Progress, done: set[int], due: int) -> int:
        """A prompt was completed: its tokens. After a preemption the answer goes on, and there are no new ones."""
        again = answer.count > 0
        if answer.cached is None:
            answer.cached = progress.cached_tokens
        if answer.request_id not in done:
            answer.token() if again else answer.first_token()
            self._stamp(answer, due)
        if again:
            return 0
        self.metrics.cached_tokens += progress.cached_tokens
        self.metrics.received_tokens += progress.received_tokens
        return progress.request.prompt_tokens

    def _stamp(self, answer: Answer, due: int) -> None:
        """A token has been written."""
        now, metrics = monotonic_ns(), self.metrics
        if answer.first:
            metrics.itl.observe((now - answer.last) * 1e-9)
        else:
            answer.first = now
            metrics.ttft.observe((now - answer.here) * 1e-9)
        metrics.lateness.observe((now - due) * 1e-9)
        answer.last = now

    def _finished(self, answer: Answer, progress: Progress) -> None:
        """vLLM's figures of a request that is done, in real seconds."""
        metrics = self.metrics
        queue = ((progress.started or progress.arrived) - progress.arrived) / self._clock.speed
        ttft = (answer.first - answer.here) * 1e-9
        decode = (answer.last - answer.first) * 1e-9
        metrics.finished[answer.reason] += 1
        metrics.e2e.observe(ttft + decode)
        metrics.queue.observe(queue)
        metrics.prefill.observe(ttft - queue)
        metrics.decode.observe(decode)
        metrics.inference.observe(ttft - queue + decode)
        metrics.tpot.observe(decode / (answer.count - 1) if answer.count > 1 else 0.0)
        metrics.request_prompt.observe(len(answer.ask.prompt))
        request = progress.request
        metrics.computed.observe(request.prompt_tokens - progress.cached_tokens - progress.received_tokens)
        metrics.request_generation.observe(answer.count)
        metrics.most_generated.observe(answer.count)
        metrics.choices.observe(1)
        metrics.preempted.observe(progress.preemptions)
        metrics.max_tokens.observe(answer.ask.max_tokens)
        if answer.ended is not None:
            answer.ended(answer, 200)
