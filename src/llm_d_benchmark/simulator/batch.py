"""The sequences of a replica that decode: one token each in every step, counted without looking at each.

All of them get a token in every step, so the step in which one ends is known when it joins (a heap), its token times
are a slice of one log, and the blocks that a step takes are the sequences at that phase of a block (a histogram).
"""

from __future__ import annotations

import heapq

from .api import FloatArray
from .progress import Progress
from .steplog import StepLog


class DecodeBatch:
    """Members by request id, oldest first.

    Attributes:
        context: tokens of all members in the KV cache.
        number: of the next step.
    """

    def __init__(self, block_size: int) -> None:
        self.members: dict[int, Progress] = {}
        self.context = 0
        self._log = StepLog()
        self._phases = [0] * block_size
        self._ends: list[tuple[int, int]] = []  # (last step, request), also of members that have left before

    @property
    def number(self) -> int:
        return self._log.next

    def newest(self) -> Progress:
        return next(reversed(self.members.values()))

    def advance(self, ends: FloatArray) -> None:
        """Steps have happened; ``ends`` are their times."""
        if not self._log.append(ends):
            oldest = min((p.joined for p in self.members.values()), default=self._log.next)
            self._log.make_room(len(ends), oldest)
            self._log.append(ends)
        self.context += len(self.members) * len(ends)

    def join(self, progress: Progress) -> None:
        """The last step computed its prompt to the end and made a token."""
        progress.joined = self._log.next - 1
        self.members[progress.request.request_id] = progress
        self.context += progress.computed
        self._phases[self._phase(progress)] += 1
        heapq.heappush(self._ends, (progress.last_step, progress.request.request_id))

    def leave(self, progress: Progress) -> None:
        """Take a member out, its tokens of this stay moved from the log to itself."""
        end = self._log.next
        del self.members[progress.request.request_id]
        self._phases[self._phase(progress)] -= 1
        progress.computed += end - progress.joined - 1
        self.context -= progress.computed
        progress.generated += end - progress.joined
        progress.pieces.append(self.times(progress))

    def times(self, progress: Progress) -> FloatArray:
        """Token times of a member's present stay."""
        return self._log.between(progress.joined, self._log.next)

    def done(self) -> list[Progress]:
        """Take out the members whose last token has been made."""
        done = []
        while self._ends and self._ends[0][0] < self._log.next:
            progress = self._first_end()
            if progress is not None and progress.last_step < self._log.next:
                self.leave(progress)
                done.append(progress)
        return done

    def need(self) -> int:
        """KV blocks that the members take in the next step."""
        return self._phases[self._log.next % len(self._phases)]

    def blocks(self, first: int, steps: int) -> int:
        """KV blocks that the members take in ``steps`` steps from number ``first`` on."""
        phases, size = self._phases, len(self._phases)
        cycles, rest = divmod(steps, size)
        start = first % size
        end = start + rest
        taken = sum(phases[start:end]) if end <= size else sum(phases[start:]) + sum(phases[: end - size])
        return cycles * len(self.members) + taken

    def steady(self, most: int, free: int) -> int:
        """Steps from now on, at most ``most``, in which nobody ends but in the last, and ``free`` blocks are enough
        beyond those of the first step."""
        first = self._first_end()
        assert first is not None
        number, size = self._log.next, len(self._phases)
        steps = min(most, first.last_step - number + 1)
        if (steps // size + 1) * len(self.members) <= free:
            return steps
        cycles, left = divmod(free, len(self.members))
        count = 1 + cycles * size
        while count < steps and (need := self._phases[(number + count) % size]) <= left:
            left -= need
            count += 1
        return min(count, steps)

    def _phase(self, progress: Progress) -> int:
        # In step k it has computed + k - joined - 1 tokens before; it takes a block where those fill its blocks.
        return (progress.joined + 1 - progress.computed) % len(self._phases)

    def _first_end(self) -> Progress | None:
        """The member that ends next; what has left before is dropped from the heap."""
        while self._ends:
            last, request_id = self._ends[0]
            progress = self.members.get(request_id)
            if progress is not None and progress.last_step == last:
                return progress
            heapq.heappop(self._ends)
        return None
