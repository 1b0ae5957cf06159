"""The pool against the plainest one that could be right: every block a row, the free ones in a list."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from llm_d_benchmark.simulator.blocks import BlockPool, Held


class PlainPool:
    """Blocks as [hash or None, holders]; ``order`` has the free ones that are kept, longest unused first."""

    def __init__(self, blocks: int) -> None:
        self.empty = blocks
        self.holders: dict[int, int] = {}
        self.order: list[int] = []

    def take(self, blocks: int) -> None:
        for _ in range(blocks):
            if self.empty:
                self.empty -= 1
            else:
                del self.holders[self.order.pop(0)]

    def hold(self, hashes: list[int]) -> None:
        for value in hashes:
            if not self.holders[value]:
                self.order.remove(value)
            self.holders[value] += 1

    def release(self, hashes: list[int], nameless: int) -> None:
        for value in reversed(hashes):
            self.holders[value] -= 1
            if not self.holders[value]:
                self.order.append(value)
        self.empty += nameless


@dataclass
class Sequence:
    """One that runs: the first ``named`` blocks of its chain have been looked at, ``count`` are taken in all."""

    chain: list[int]
    held: list[Held]
    hashes: list[int]
    named: int
    count: int


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),  # which prompt
            st.integers(0, 6),  # blocks until its question, which is its own
            st.integers(1, 5),  # blocks of the question
            st.integers(0, 4),  # which sequence goes on or goes away, if it cannot come
            st.integers(0, 3),  # blocks that it names next; 0: it goes away
            st.integers(0, 2),  # full ones that nobody will find, at its end
        ),
        max_size=80,
    ),
    st.integers(4, 24),
)
def test_it_keeps_and_forgets_what_a_plain_pool_does(
    work: list[tuple[int, int, int, int, int, int]], blocks: int
) -> None:
    """Sequences with shared beginnings come, name their blocks bit by bit, and go in any order."""
    pool, plain = BlockPool(blocks), PlainPool(blocks)
    running: list[Sequence] = []
    unseen = -1
    for number, (kind, shared, own, which, step, more) in enumerate(work):
        own_first = 100_000 * (1 + number % 7) + 10_000 * kind + 1000 * shared  # a hash tells all blocks before it
        chain = [100 * kind + i for i in range(shared)] + [own_first + i for i in range(own)]
        hit = pool.hits(chain, len(chain))
        assert hit == next((i for i, value in enumerate(chain) if value not in plain.holders), len(chain))
        idle = pool.idle(chain, hit)
        assert idle == sum(not plain.holders[value] for value in chain[:hit])
        need = len(chain) - hit + more
        if need <= pool.free - idle:
            held = pool.hold(chain, hit)
            plain.hold(chain[:hit])
            pool.take(need)
            plain.take(need)
            running.append(Sequence(chain, held, chain[:hit], hit, hit + need))
        elif running:
            one = running[which % len(running)]
            until = len(one.chain) if not step else min(one.named + step, len(one.chain))
            fresh = [value for value in one.chain[one.named : until] if value not in plain.holders]
            one.held += pool.name(one.chain, one.named, until)
            plain.holders.update(dict.fromkeys(fresh, 1))
            one.hashes, one.named = one.hashes + fresh, until
            if not step:
                running.remove(one)
                full = min(more, one.count - len(one.chain))
                names = list(range(unseen, unseen - full, -1))
                unseen -= full
                plain.holders.update(dict.fromkeys(names, 1))
                nameless = one.count - len(one.hashes) - full
                pool.release(one.held, full, nameless)
                plain.release(one.hashes + names, nameless)
        assert sum(n for one in running for _, n in one.held) == sum(len(one.hashes) for one in running)
        assert pool.free == plain.empty + len(plain.order) >= 0
    for one in running:
        pool.release(one.held, 0, one.count - len(one.hashes))
    assert pool.free == blocks


def test_what_is_used_again_and_again_does_not_pile_up() -> None:
    pool = BlockPool(8)
    pool.take(4)
    pool.release(pool.name([1, 2, 3, 4], 0, 4), 0, 0)
    for _ in range(1000):
        pool.release(pool.hold([1, 2, 3, 4], 4), 0, 0)
    assert len(pool._queue) <= 17
    assert pool.hits([1, 2, 3, 4, 5], 5) == 4
