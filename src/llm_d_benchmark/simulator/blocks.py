"""Paged KV cache of one replica: blocks in use, blocks kept for their content, and empty blocks.

A block with a hash outlives its sequences and is found again by whoever has the same prefix. Of the free blocks empty
ones are taken first, then those longest unused; of one sequence the last block first, so that what stays is a prefix.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice


class BlockPool:
    """Counts blocks rather than numbering them: a block without a hash has nothing that could tell it apart.

    Attributes:
        free: blocks that can be taken: empty, or kept only for their content.
    """

    def __init__(self, blocks: int) -> None:
        self.total = blocks
        self.free = blocks
        self._empty = blocks
        # By hash: how many sequences hold the block; of one that nobody holds, minus the number of the release in which
        # it was given up. One table, because looking up scattered hashes is what costs.
        self._named: dict[int, int] = {}
        self._shared: set[int] = set()  # held by more than one
        self._releases = 0
        # What each release gave up, the next to be forgotten at the end; what has been held again since is stale.
        self._queue: deque[tuple[int, list[int]]] = deque()
        self._queued = 0

    def hits(self, hashes: Sequence[int], limit: int) -> int:
        """How many of the first ``limit`` hashes are there, up to the first that is not."""
        named = self._named
        if not limit or not hashes or hashes[0] not in named:
            return 0  # most often
        for count, value in enumerate(islice(hashes, limit)):
            if value not in named:
                return count
        return min(limit, len(hashes))

    def idle(self, hashes: Sequence[int]) -> int:
        """How many of these cached blocks nobody holds: holding them makes as many fewer free."""
        named = self._named
        return sum([named[value] < 0 for value in hashes])

    def hold(self, hashes: Sequence[int]) -> None:
        """One more sequence holds these cached blocks."""
        named = self._named
        for value in hashes:
            holders = named[value]
            if holders < 0:
                named[value] = 1
                self.free -= 1
            else:
                named[value] = holders + 1
                self._shared.add(value)

    def take(self, blocks: int) -> None:
        """Take free blocks; what the longest unused of them held is forgotten. The caller knows that they are there."""
        self.free -= blocks
        self._empty -= blocks
        named, queue = self._named, self._queue
        while self._empty < 0:
            release, hashes = queue[0]
            oldest = hashes[self._empty :]
            del hashes[self._empty :]
            self._queued -= len(oldest)
            if not hashes:
                queue.popleft()
            for value in oldest:
                if named.get(value) == release:
                    del named[value]
                    self._empty += 1

    def name(self, hashes: Sequence[int]) -> Sequence[int]:
        """Give taken blocks their hashes; those that another block has already are left out of the answer."""
        named = self._named
        if not named.keys().isdisjoint(hashes):
            hashes = [value for value in hashes if value not in named]
        named.update(dict.fromkeys(hashes, 1))
        return hashes

    def release(self, hashes: Sequence[int], nameless: int) -> None:
        """A sequence gives its blocks back: those with a hash stay until they are needed, the last of them first."""
        last = list(hashes) if self._shared.isdisjoint(hashes) else self._give_up(hashes)
        self._empty += nameless
        self.free += len(last) + nameless
        if last:
            self._releases -= 1
            self._named.update(dict.fromkeys(last, self._releases))
            self._queue.append((self._releases, last))
            self._queued += len(last)
            if self._queued > 2 * self.total:
                self._tidy()

    def _give_up(self, hashes: Sequence[int]) -> list[int]:
        """One sequence less holds these blocks; those that nobody holds any more."""
        named, shared, last = self._named, self._shared, []
        for value in hashes:
            if value not in shared:
                last.append(value)
                continue
            named[value] -= 1
            if named[value] == 1:
                shared.remove(value)
        return last

    def _tidy(self) -> None:
        """Drop what is stale from the queue."""
        named = self._named
        fresh = ((n, [value for value in hashes if named.get(value) == n]) for n, hashes in self._queue)
        self._queue = deque((n, hashes) for n, hashes in fresh if hashes)
        self._queued = sum(len(hashes) for _, hashes in self._queue)
