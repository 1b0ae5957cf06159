"""The pool against the plainest one that could be right: every block a row, the free ones in a list."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from llm_d_benchmark.simulator.blocks import BlockPool


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


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6), st.integers(0, 3)), max_size=60), st.integers(4, 14))
def test_it_keeps_and_forgets_what_a_plain_pool_does(work: list[tuple[int, int, int]], blocks: int) -> None:
    """Sequences of ``length`` blocks of prompt ``kind`` and some nameless ones come, and go in order of arrival."""
    pool, plain = BlockPool(blocks), PlainPool(blocks)
    running: list[tuple[list[int], int]] = []
    for kind, length, more in work:
        chain = [100 * kind + i for i in range(length)]
        hit = pool.hits(chain, length)
        assert hit == next((i for i, value in enumerate(chain) if value not in plain.holders), length)
        need = length - hit + more
        if need > pool.free - pool.idle(chain[:hit]):
            if running:
                held, nameless = running.pop(0)
                pool.release(held, nameless)
                plain.release(held, nameless)
            continue
        for either in (pool, plain):
            either.hold(chain[:hit])
            either.take(need)
        named = list(pool.name(chain[hit:]))
        plain.holders.update(dict.fromkeys(named, 1))
        running.append((chain[:hit] + named, need - len(named)))
        assert pool.free == plain.empty + len(plain.order) >= 0
    for held, nameless in running:
        pool.release(held, nameless)
    assert pool.free == blocks
