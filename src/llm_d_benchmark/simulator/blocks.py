"""Paged KV cache of one replica: blocks in use, blocks kept for their content, and empty blocks.

A block with a hash outlives its sequences and is found again by whoever has the same prefix. Of the free blocks empty
ones are taken first, then those longest unused; of one sequence the last block first, so that what stays is a prefix.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice


class BlockPool:
    """Counts blocks rather than numbering them: a block without a hash has nothing that could tell it apart."""

    def __init__(self, blocks: int) -> None:
        self.total = blocks
        self._empty = blocks
        self._used: dict[int, int] = {}  # hash -> sequences that hold it
        self._kept: OrderedDict[int, None] = OrderedDict()  # hashes nobody holds, longest unused first

    @property
    def free(self) -> int:
        """Blocks that can be taken: empty, or kept only for their content."""
        return self._empty + len(self._kept)

    @property
    def cached(self) -> int:
        """Blocks that a prefix can hit."""
        return len(self._used) + len(self._kept)

    def hits(self, hashes: Sequence[int], limit: int) -> int:
        """How many of the first ``limit`` hashes are there, up to the first that is not."""
        used, kept = self._used, self._kept
        for count, value in enumerate(islice(hashes, limit)):
            if value not in used and value not in kept:
                return count
        return min(limit, len(hashes))

    def idle(self, hashes: Sequence[int]) -> int:
        """How many of these cached blocks nobody holds: holding them makes as many fewer free."""
        return sum(1 for value in hashes if value in self._kept)

    def hold(self, hashes: Sequence[int]) -> None:
        """One more sequence holds these cached blocks."""
        used, kept = self._used, self._kept
        for value in hashes:
            if value in kept:
                del kept[value]
                used[value] = 1
            else:
                used[value] += 1

    def take(self, blocks: int) -> None:
        """Take free blocks; what the longest unused of them held is forgotten. The caller knows that they are there."""
        self._empty -= blocks
        while self._empty < 0:
            self._kept.popitem(last=False)
            self._empty += 1

    def name(self, hashes: Sequence[int]) -> Sequence[int]:
        """Give taken blocks their hashes; those that another block has already are left out of the answer."""
        used, kept = self._used, self._kept
        if not (used.keys().isdisjoint(hashes) and kept.keys().isdisjoint(hashes)):
            hashes = [value for value in dict.fromkeys(hashes) if value not in used and value not in kept]
        used.update(dict.fromkeys(hashes, 1))
        return hashes

    def release(self, hashes: Sequence[int], nameless: int) -> None:
        """A sequence gives its blocks back: those with a hash stay until they are needed, the last of them first."""
        used, kept = self._used, self._kept
        for value in reversed(hashes):
            holders = used[value]
            if holders > 1:
                used[value] = holders - 1
            else:
                del used[value]
                kept[value] = None
        self._empty += nameless
