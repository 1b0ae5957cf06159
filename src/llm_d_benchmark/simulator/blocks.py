"""Paged KV cache of one replica: blocks in use, blocks kept for their content, and empty blocks.

A block with a hash outlives its sequences and is found again by whoever has the same prefix. Of the free blocks empty
ones are taken first, then those longest unused; of one sequence the last block first, so that what stays is a prefix.

Hashes are chained: a block's hash tells all blocks before it. So blocks that were named together are one run in the
table, under the hash of the first, for as long as the same sequences hold them; a prompt that nobody shares costs as
much as a block.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Run:
    """Blocks in a row that the same sequences hold.

    Attributes:
        hashes: of those that are still there; the last ones are forgotten first.
        holders: how many sequences hold them.
        record: the release that gave them up, of which they are a part; None while somebody holds them.
        tail: what was split off their end while they were held; whoever held all of it finds the rest there.
    """

    hashes: list[int]
    holders: int = 1
    record: list[Run] | None = None
    tail: Run | None = None


Held = tuple[Run, int]
"""A run and how many blocks it had when a sequence began to hold it."""


class BlockPool:
    """Counts blocks rather than numbering them: a block without a hash has nothing that could tell it apart.

    Attributes:
        free: blocks that can be taken: empty, or kept only for their content.
    """

    def __init__(self, blocks: int) -> None:
        self.total = blocks
        self.free = blocks
        self._empty = blocks
        self._runs: dict[int, Run] = {}  # by the hash of their first block
        # What each release gave up, the next to be forgotten at the end; what has been held again since is stale.
        self._queue: deque[list[Run]] = deque()
        self._queued = 0

    def hits(self, chain: Sequence[int], limit: int) -> int:
        """How many of the first ``limit`` hashes are there, up to the first that is not."""
        runs, count, limit = self._runs, 0, min(limit, len(chain))
        while count < limit:
            run = runs.get(chain[count])
            if run is None:
                break
            same = _same(run.hashes, chain, count)
            count += same
            if same < len(run.hashes):
                break
        return count if count < limit else limit

    def idle(self, chain: Sequence[int], count: int) -> int:
        """How many of the first ``count`` blocks, all cached, nobody holds: holding them makes as many fewer free."""
        idle = at = 0
        while at < count:
            run = self._runs[chain[at]]
            blocks = min(len(run.hashes), count - at)
            idle += 0 if run.holders else blocks
            at += blocks
        return idle

    def hold(self, chain: Sequence[int], count: int) -> list[Held]:
        """One more sequence holds the first ``count`` blocks, all cached."""
        held: list[Held] = []
        at = 0
        while at < count:
            run = self._runs[chain[at]]
            if len(run.hashes) > count - at:
                self._split(run, count - at)
            if not run.holders:
                self.free -= len(run.hashes)
                run.record = None
            run.holders += 1
            held.append((run, len(run.hashes)))
            at += len(run.hashes)
        return held

    def take(self, blocks: int) -> None:
        """Take free blocks; what the longest unused of them held is forgotten. The caller knows that they are there."""
        self.free -= blocks
        self._empty -= blocks
        queue = self._queue
        while self._empty < 0:
            record = queue[0]
            if not record:
                queue.popleft()
                continue
            run = record[-1]
            if run.record is not record:  # held again since
                self._drop_last(record)
            elif (size := len(run.hashes)) > -self._empty:
                del run.hashes[self._empty :]
                self._empty = 0
            else:
                self._empty += size
                self._drop_last(record)
                if self._runs.get(run.hashes[0]) is run:
                    del self._runs[run.hashes[0]]

    def name(self, chain: Sequence[int], first: int, end: int) -> list[Held]:
        """Give taken blocks their hashes, those from ``first`` to before ``end``; the sequence holds what this gives:
        all but those that another block has already."""
        runs = self._runs
        if first >= end:
            return []
        if not first and runs.keys().isdisjoint(chain[:end]):  # most often
            return [self._named(chain[:end])]
        held: list[Held] = []
        at, new = 0, first
        while at < end:
            run = runs.get(chain[at])
            if run is None:
                at += 1
                continue
            if new < at:
                held.append(self._named(chain[new:at]))
            same = min(_same(run.hashes, chain, at), (first if at < first else end) - at)
            if same < len(run.hashes):
                self._split(run, same)  # what comes next is to be found by its hash
            at += same
            new = max(first, at)
        if new < end:
            held.append(self._named(chain[new:end]))
        return held

    def release(self, held: Sequence[Held], unseen: int, nameless: int) -> None:
        """A sequence gives its blocks back, in order.

        Args:
            held: these stay until they are needed, the last of them first.
            unseen: further full ones, which stay likewise, but nobody can find them.
            nameless: these are empty at once.
        """
        record: list[Run] = []
        freed = unseen + nameless
        for run, blocks in held:
            part: Run | None = run
            while part is not None and blocks > 0:
                blocks -= len(part.hashes)
                part.holders -= 1
                after = part.tail
                if not part.holders:
                    part.record, part.tail = record, None
                    record.append(part)
                    freed += len(part.hashes)
                part = after
        if unseen:
            record.append(Run([0] * unseen, 0, record))
        self._empty += nameless
        self.free += freed
        if record:
            self._queue.append(record)
            self._queued += len(record)
            if self._queued > 2 * self.total:
                self._tidy()

    def _named(self, hashes: Sequence[int]) -> Held:
        """A new run of taken blocks."""
        run = self._runs[hashes[0]] = Run(list(hashes))
        return run, len(hashes)

    def _split(self, run: Run, blocks: int) -> None:
        """Make the blocks of a run after the first ``blocks`` a run of their own."""
        rest = Run(run.hashes[blocks:], run.holders, run.record, run.tail)
        del run.hashes[blocks:]
        self._runs[rest.hashes[0]] = rest
        if run.record is None:
            run.tail = rest
        else:
            run.record.insert(run.record.index(run) + 1, rest)
            self._queued += 1

    def _drop_last(self, record: list[Run]) -> None:
        record.pop()
        self._queued -= 1

    def _tidy(self) -> None:
        """Drop what is stale from the queue."""
        for record in self._queue:
            record[:] = [run for run in record if run.record is record]
        self._queue = deque(record for record in self._queue if record)
        self._queued = sum(map(len, self._queue))


def _same(hashes: list[int], chain: Sequence[int], at: int) -> int:
    """How many of a run's hashes are those of the chain from ``at`` on."""
    if hashes == chain[at : at + len(hashes)]:
        return len(hashes)
    differ = (k for k, (ours, theirs) in enumerate(zip(hashes, chain[at:], strict=False)) if ours != theirs)
    return next(differ, min(len(hashes), len(chain) - at))
