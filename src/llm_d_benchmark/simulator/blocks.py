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
        self._held: set[int] = set()  # hashes of blocks that sequences hold
        self._shared: dict[int, int] = {}  # of those that several hold: how many beyond the first
        self._kept: dict[int, int] = {}  # hashes nobody holds: in which release they were given up
        self._releases = 0
        # What each release gave up, the next to be forgotten at the end; what has been held again since is stale.
        self._queue: deque[tuple[int, list[int]]] = deque()
        self._queued = 0

    def hits(self, hashes: Sequence[int], limit: int) -> int:
        """How many of the first ``limit`` hashes are there, up to the first that is not."""
        held, kept = self._held, self._kept
        if not limit or not hashes or (hashes[0] not in held and hashes[0] not in kept):
            return 0  # most often
        for count, value in enumerate(islice(hashes, limit)):
            if value not in held and value not in kept:
                return count
        return min(limit, len(hashes))

    def idle(self, hashes: Sequence[int]) -> int:
        """How many of these cached blocks nobody holds: holding them makes as many fewer free."""
        kept = self._kept
        return sum([value in kept for value in hashes])

    def hold(self, hashes: Sequence[int]) -> None:
        """One more sequence holds these cached blocks."""
        held, shared, kept = self._held, self._shared, self._kept
        for value in hashes:
            if value in held:
                shared[value] = shared.get(value, 0) + 1
            else:
                del kept[value]
                held.add(value)
                self.free -= 1

    def take(self, blocks: int) -> None:
        """Take free blocks; what the longest unused of them held is forgotten. The caller knows that they are there."""
        self.free -= blocks
        self._empty -= blocks
        kept, queue = self._kept, self._queue
        while self._empty < 0:
            release, hashes = queue[0]
            value = hashes.pop()
            self._queued -= 1
            if not hashes:
                queue.popleft()
            if kept.get(value) == release:
                del kept[value]
                self._empty += 1

    def name(self, hashes: Sequence[int]) -> Sequence[int]:
        """Give taken blocks their hashes; those that another block has already are left out of the answer."""
        held, kept = self._held, self._kept
        if not (held.isdisjoint(hashes) and kept.keys().isdisjoint(hashes)):
            hashes = [value for value in hashes if value not in held and value not in kept]
        held.update(hashes)
        return hashes

    def release(self, hashes: Sequence[int], nameless: int) -> None:
        """A sequence gives its blocks back: those with a hash stay until they are needed, the last of them first."""
        shared, last = self._shared, hashes
        if shared and not shared.keys().isdisjoint(hashes):
            last = []
            for value in hashes:
                if (others := shared.get(value)) is None:
                    last.append(value)
                elif others > 1:
                    shared[value] = others - 1
                else:
                    del shared[value]
        self._empty += nameless
        self.free += len(last) + nameless
        if last:
            self._held.difference_update(last)
            self._releases += 1
            self._kept.update(dict.fromkeys(last, self._releases))
            self._queue.append((self._releases, list(last)))
            self._queued += len(last)
            if self._queued > 2 * self.total:
                self._tidy()

    def _tidy(self) -> None:
        """Drop what is stale from the queue."""
        kept = self._kept
        fresh = ((n, [value for value in hashes if kept.get(value) == n]) for n, hashes in self._queue)
        self._queue = deque((n, hashes) for n, hashes in fresh if hashes)
        self._queued = len(kept)
