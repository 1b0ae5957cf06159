"""One replica of an inference server as vLLM schedules it: continuous batching over a paged KV cache. It has no clock:
its caller says when a step begins, and is told when it ends.

A step gives every sequence of the batch one token, then spends what is left of ``max_num_batched_tokens`` on prompts,
in order of arrival, in chunks where they do not fit. Blocks are taken as sequences grow; when there are none left, the
newest sequence is preempted: it gives all its blocks back and is computed again from the head of the queue.

While nothing but decoding happens, many steps are planned at once, with work that does not depend on the number of
sequences (see ``batch``). One step at a time gives the same times.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..domain.errors import ConfigError
from .api import EngineRequest, FloatArray, StepLoad
from .batch import DecodeBatch
from .blocks import BlockPool
from .pace import Pace
from .progress import Progress

MOST_STEPS = 1024


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """What one replica holds and does in a step; the names are vLLM's."""

    max_num_seqs: int
    max_num_batched_tokens: int
    block_size: int
    num_gpu_blocks: int
    enable_prefix_caching: bool = True

    def blocks(self, tokens: int) -> int:
        """Blocks that hold so many tokens."""
        return -(-tokens // self.block_size)


@dataclass(frozen=True, slots=True)
class Step:
    """One step.

    Attributes:
        begin, duration: seconds.
        produced: ids of the requests that get one token each at its end.
        first: those among them whose prompt it completed (after a preemption: once more).
        finished: those among them that are done with that.
    """

    begin: float
    duration: float
    load: StepLoad
    produced: Sequence[int]
    first: Sequence[Progress]
    finished: Sequence[Progress]

    @property
    def end(self) -> float:
        return self.begin + self.duration


class Engine:
    """One replica.

    The real clock calls ``step`` when the last step has ended. The virtual clock calls ``begin`` and, when it knows how
    many of the planned steps happen before anything changes, ``end``. ``submit`` may be called at any time, ``abort``
    not between the two; both count from the next step on. ``reach`` says how many of the planned steps have begun.

    Attributes:
        preemptions, prompt_tokens, cached_tokens, generated_tokens: since the start, of requests that have started.
        coming: requests that will be submitted when their KV cache has come; until then they wait like others.
    """

    def __init__(self, limits: EngineLimits, pace: Pace) -> None:
        self.limits = limits
        self.preemptions = 0
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.generated_tokens = 0
        self.coming = 0
        self._pace = pace
        self._pool = BlockPool(limits.num_gpu_blocks)
        self._batch = DecodeBatch(limits.block_size)
        self._requests: dict[int, Progress] = {}
        self._waiting: deque[Progress] = deque()
        self._left_behind = False  # whether the planned step left requests in the queue
        self._partial: Progress | None = None  # in the middle of its prompt
        self._whole: list[Progress] = []  # prompts that the planned step completes
        self._work = (0, 0.0, 0, 0)  # of the first planned step, as StepLoad has it
        self._ends: FloatArray = np.empty(0)  # of the planned steps
        self._begun = 0  # of the planned steps: their blocks have been taken

    # what a router or a metrics page asks

    @property
    def waiting(self) -> int:
        """Requests in the queue, preempted ones included, and those whose KV cache is coming."""
        return len(self._waiting) + self.coming

    @property
    def overflow(self) -> int:
        """How many more wait than there are free places; below 0 where some would be left. None is free where the last
        step left somebody behind, for want of a place, of tokens or of blocks; else who waits only waits for a step."""
        return self.waiting - (0 if self._left_behind else self.limits.max_num_seqs - self.running)

    @property
    def running(self) -> int:
        """Sequences that hold one of the ``max_num_seqs`` places."""
        return len(self._batch.members) + (self._partial is not None) + len(self._whole)

    @property
    def load(self) -> StepLoad:
        """The work of the first of the planned steps."""
        return StepLoad(*self._work)

    @property
    def batch_size(self) -> int:
        """Sequences that get a token in each of the planned steps."""
        return len(self._batch.members)

    @property
    def free_blocks(self) -> int:
        """KV blocks that no sequence holds."""
        return self._pool.free

    def kv_usage(self) -> float:
        """Part of the KV blocks that sequences hold, 0 to 1."""
        return 1.0 - self._pool.free / self._pool.total

    def cached_prefix(self, request: EngineRequest) -> int:
        """Prompt tokens of a request that are in the prefix cache now; at least one is always computed."""
        limits = self.limits
        if not limits.enable_prefix_caching:
            return 0
        return self._pool.hits(request.blocks, (request.prompt_tokens - 1) // limits.block_size) * limits.block_size

    @property
    def decoding(self) -> Sequence[int]:
        """Ids of the requests that get another token at the end of the planned step, oldest first."""
        return tuple(self._batch.members)

    @property
    def idle(self) -> bool:
        return not self._requests

    def token_times(self, progress: Progress, planned: int = 0) -> FloatArray:
        """When a request got its tokens so far, and in the first ``planned`` of the planned steps."""
        pieces = list(progress.pieces)
        if self._batch.members.get(progress.request.request_id) is progress:
            pieces += [self._batch.times(progress), self._ends[:planned]]
        return np.concatenate(pieces or [np.empty(0)])

    # requests

    def submit(self, request: EngineRequest, now: float) -> Progress:
        """Put a request into the queue.

        Raises:
            ConfigError: it is longer than the whole KV cache, so it could never end.
        """
        needed = self.limits.blocks(request.prompt_tokens + request.output_tokens - 1)
        if needed > self._pool.total:
            raise ConfigError(
                f"a request of {request.prompt_tokens} + {request.output_tokens} tokens needs {needed} KV blocks of "
                f"{self.limits.block_size} tokens, and num_gpu_blocks is {self._pool.total}",
                advice="ask for shorter prompts or answers, or raise num_gpu_blocks or gpu_memory_utilization",
            )
        chain: Sequence[int] = ()
        if self.limits.enable_prefix_caching:
            seen = request.output_blocks and not request.output_unseen
            chain = [*request.blocks, *request.output_blocks] if seen else request.blocks
        progress = Progress(request, now, chain=chain)
        self._requests[request.request_id] = progress
        self._waiting.append(progress)
        return progress

    def abort(self, request_id: int) -> Progress | None:
        """Take a request out; what it made so far is in its token times. None where it has ended."""
        progress = self._requests.pop(request_id, None)
        if progress is None:
            return None
        if request_id in self._batch.members:
            self._batch.leave(progress)
        elif progress is self._partial:
            self._partial = None
        else:
            self._waiting.remove(progress)
        self._release(progress, ended=True)
        return progress

    # steps

    def step(self, now: float) -> Step | None:
        """One step that begins now; None where there is nothing to do."""
        ends = self.begin(now, 1)
        if ends is None:
            return None
        decoding, duration = tuple(self._batch.members), float(ends[0]) - now
        first, finished = self.end(1)
        return Step(now, duration, self.load, (*decoding, *(p.request.request_id for p in first)), first, finished)

    def begin(self, now: float, most: int = MOST_STEPS) -> FloatArray | None:
        """Plan what happens from now on if nothing arrives: one step, or several that only decode. ``end`` must follow.

        Returns:
            The ends of the planned steps, seconds, at most ``most`` of them; None where there is nothing to do.
        """
        if not self._requests:
            self._left_behind = False
            return None
        number, preemptions = self._batch.number, self.preemptions
        self._begun = 1
        self._make_room()
        tokens, pairs = 0, 0.0
        if self._waiting or self._partial is not None:
            tokens, pairs = self._prefill(now, admit=self.preemptions == preemptions)
        self._left_behind = bool(self._waiting)
        seqs = len(self._batch.members)
        context = self._batch.context + seqs if seqs else 0
        self._work = (tokens, pairs, seqs, context)
        if tokens:
            self._ends = np.array([now + self._pace.step(self.load, number)])
        else:
            # Whoever was preempted just now is looked at again in the next step.
            steps = 1 if self.preemptions > preemptions else self._batch.steady(most, self._pool.free)
            times = self._pace.decode_steps(seqs, context, number, steps)
            times[0] += now
            self._ends = times.cumsum()
        return self._ends

    def reach(self, steps: int) -> None:
        """The first ``steps`` of the planned steps have begun: the KV cache is as of the last of them from now on."""
        if (more := steps - self._begun) > 0:
            self._pool.take(self._batch.blocks(self._batch.number + self._begun, more))
            self._begun = steps

    def end(self, steps: int) -> tuple[list[Progress], list[Progress]]:
        """The first ``steps`` of the planned steps have happened.

        Returns:
            The requests whose prompt was completed and that got a token with it, and those that are done.
        """
        self.reach(steps)
        self.generated_tokens += len(self._batch.members) * steps + len(self._whole)
        self._batch.advance(self._ends[:steps])
        first, self._whole = self._whole, []
        for progress in first:
            if progress.first_token is None:
                progress.first_token = float(self._ends[0])
            self._batch.join(progress)
        finished = self._batch.done()
        for progress in finished:
            progress.last_token = float(progress.pieces[-1][-1])
            del self._requests[progress.request.request_id]
            self._release(progress, ended=True)
        return first, finished

    # the KV cache

    def _make_room(self) -> None:
        """Take the blocks that the batch needs for the next step; preempt until they are there."""
        while (need := self._batch.need()) > self._pool.free:
            self._preempt(self._partial or self._batch.newest())
        if need:
            self._pool.take(need)

    def _preempt(self, progress: Progress) -> None:
        if progress is self._partial:
            self._partial = None
        else:
            self._batch.leave(progress)
        if self.limits.enable_prefix_caching and progress.request.output_unseen:
            progress.chain = [*progress.request.blocks, *progress.request.output_blocks]  # it will look for them itself
        self._release(progress)
        progress.preemptions += 1
        self.preemptions += 1
        self._waiting.appendleft(progress)

    def _release(self, progress: Progress, *, ended: bool = False) -> None:
        """Give every block back; full ones stay in the cache for whoever has the same prefix."""
        request, full = progress.request, progress.computed // self.limits.block_size
        unseen = 0
        if ended and request.output_unseen and self.limits.enable_prefix_caching:
            unseen = max(0, full - max(progress.named, len(request.blocks)))
        self._name(progress, full - unseen)
        named = sum([blocks for _, blocks in progress.held])
        self._pool.release(progress.held, unseen, self.limits.blocks(progress.computed) - named - unseen)
        progress.held, progress.named, progress.computed = [], 0, 0

    def _name(self, progress: Progress, full: int) -> None:
        """Blocks that have filled up, the first ``full``, can be found by their hash from now on."""
        if full > progress.named:
            progress.held += self._pool.name(progress.chain, progress.named, min(full, len(progress.chain)))
            progress.named = full

    # prompts

    def _prefill(self, now: float, *, admit: bool) -> tuple[int, float]:
        """Spend the rest of the step on prompts: (tokens, query-key pairs of their attention)."""
        budget = self.limits.max_num_batched_tokens - len(self._batch.members)
        tokens, pairs = 0, 0.0
        if (progress := self._partial) is not None:
            before = progress.computed
            if self._compute(progress, budget):
                tokens, pairs = progress.computed - before, _pairs(before, progress.computed)
            else:
                self._preempt(progress)
                admit = False
        while admit and self._waiting and tokens < budget and self.running < self.limits.max_num_seqs:
            progress = self._waiting[0]
            if (done := self._admit(progress, budget - tokens, now)) is None:
                break
            self._waiting.popleft()
            tokens += progress.computed - done
            pairs += _pairs(done, progress.computed)
        return tokens, pairs

    def _admit(self, progress: Progress, budget: int, now: float) -> int | None:
        """Start the head of the queue: the tokens it need not compute; None where its blocks are not free."""
        limits, pool, request = self.limits, self._pool, progress.request
        hit = pool.hits(progress.chain, (progress.tokens - 1) // limits.block_size)
        done = hit * limits.block_size
        if progress.started is None:
            done = max(done, min(request.transferred_tokens, progress.tokens - 1))
        need = limits.blocks(min(progress.tokens, done + budget)) - hit
        if need > pool.free - pool.idle(progress.chain, hit):
            return None
        progress.held, progress.named, progress.computed = pool.hold(progress.chain, hit), hit, done
        pool.take(limits.blocks(done) - hit)
        self._compute(progress, budget)
        if progress.started is None:
            progress.started = now
            progress.cached_tokens = hit * limits.block_size
            self.prompt_tokens += request.prompt_tokens
            self.cached_tokens += progress.cached_tokens
        return done

    def _compute(self, progress: Progress, budget: int) -> bool:
        """Compute the next chunk of a prompt; False where its blocks are not free."""
        limits = self.limits
        after = min(progress.tokens, progress.computed + budget)
        need = limits.blocks(after) - limits.blocks(progress.computed)
        if need > self._pool.free:
            return False
        self._pool.take(need)
        progress.computed = after
        self._name(progress, after // limits.block_size)
        if after == progress.tokens:
            self._partial = None
            self._whole.append(progress)
        else:
            self._partial = progress
        return True


def _pairs(before: int, after: int) -> float:
    """Query-key pairs of the tokens ``before`` to ``after``, each with itself and all before it."""
    count = after - before
    return count * (before + (count + 1) / 2)
