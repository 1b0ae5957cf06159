"""What every workload must do, as tests: subclass ``WorkloadConformance`` and give it a ``make`` fixture.

class TestMine(WorkloadConformance):
    @pytest.fixture
    def make(self):
        return lambda context: MyWorkload(context)      # a new workload each time it is called

    options = {"type": "mine"}                          # what the workload is built with
    endpoints = ("chat", "completions")                 # the APIs it can feed
    unique_across_stages = True                         # False where it sends what a file holds
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar

import numpy as np

from ..domain.schedule import Load, Prompt, Shard, Stage
from ..workload.api import Content, Workload, WorkloadContext

Make = Callable[[WorkloadContext], Workload]
COUNT = 40


class WordCountSizer:
    """A sizer for tests: one word is one token, and the server adds three of its own."""

    method = "tokenize"
    error = 0.0
    overhead = 3

    def make(self, rng: np.random.Generator, tokens: int) -> str:
        return " ".join(f"w{number}" for number in rng.integers(1_000_000, size=tokens).tolist())

    def join(self, *parts: str | tuple[int, ...]) -> str:
        return " ".join(part for part in parts if isinstance(part, str))

    def count(self, text: str) -> int:
        return len(text.split())


class WorkloadConformance:
    """Tests of one workload. Needs no server and no pytest plugin."""

    options: ClassVar[Mapping[str, Any]] = {}
    endpoints: ClassVar[Sequence[str]] = ("chat", "completions")
    unique_across_stages: ClassVar[bool] = True

    def test_it_makes_sessions_that_can_be_sent(self, make: Make) -> None:
        for endpoint in self.endpoints:
            for content in self._contents(make, 0, endpoint=endpoint):
                assert content.turns
                for turn in content.turns:
                    _check_prompt(turn.prompt, endpoint)
                    assert turn.input_asked is None or turn.input_asked >= 1
                    assert turn.output_asked is None or turn.output_asked >= 1
                    assert turn.think_s >= 0

    def test_texts_are_as_long_as_is_said(self, make: Make) -> None:
        for content in self._contents(make, 0, endpoint="completions" if "completions" in self.endpoints else "chat"):
            first = content.turns[0]
            if isinstance(first.prompt, str) and first.input_asked is not None:
                assert len(first.prompt.split()) == max(1, first.input_asked - WordCountSizer.overhead)

    def test_the_same_seed_gives_the_same_sessions_also_from_a_new_instance(self, make: Make) -> None:
        assert self._contents(make, 0) == self._contents(make, 0)
        assert self._contents(make, 3) == self._contents(make, 3)

    def test_iterators_of_one_instance_do_not_disturb_each_other(self, make: Make) -> None:
        workload = make(self._context())
        first, second = (workload.contents(_stage(0), seed=1) for _ in range(2))
        pairs = list(islice(zip(first, second, strict=False), COUNT))
        alone = self._contents(make, 0)
        assert [a for a, _ in pairs] == [b for _, b in pairs] == alone

    def test_the_load_of_a_stage_does_not_change_its_sessions(self, make: Make) -> None:
        workload = make(self._context())
        other = Stage(0, "other", Load(concurrency=7), num_requests=5, warmup_s=2.0)
        assert list(islice(workload.contents(other, seed=1), COUNT)) == self._contents(make, 0)

    def test_stages_do_not_send_the_same_prompts(self, make: Make) -> None:
        if not self.unique_across_stages:
            return
        first, second = ({repr(content.turns[0].prompt) for content in self._contents(make, i)} for i in (0, 1))
        assert first.isdisjoint(second)

    def test_times_of_its_own_never_go_back(self, make: Make) -> None:
        offsets = [content.offset_s for content in self._contents(make, 0)]
        known = [offset for offset in offsets if offset is not None]
        assert len(known) in (0, len(offsets))
        assert all(offset >= 0 for offset in known)
        assert known == sorted(known)

    def test_shards_are_a_partition(self, make: Make) -> None:
        whole = self._contents(make, 0)
        parts = [[c for i, c in enumerate(self._contents(make, 0)) if Shard(s, 3).owns(i)] for s in range(3)]
        assert sum(map(len, parts)) == len(whole)
        assert [parts[i % 3][i // 3] for i in range(len(whole))] == whole

    def _contents(self, make: Make, stage: int, *, endpoint: str | None = None) -> list[Content]:
        return list(islice(make(self._context(endpoint)).contents(_stage(stage), seed=1), COUNT))

    def _context(self, endpoint: str | None = None) -> WorkloadContext:
        return WorkloadContext(WordCountSizer(), endpoint or self.endpoints[0], self.options)


def _stage(index: int) -> Stage:
    return Stage(index, f"stage {index}", Load(rate=5.0), duration_s=10.0)


def _check_prompt(prompt: Prompt, endpoint: str) -> None:
    """What the engine can put into a body: text for both APIs, messages for both, token ids for completions."""
    assert prompt
    if isinstance(prompt, str):
        return
    if isinstance(prompt[0], int):
        assert endpoint == "completions", "token ids cannot be sent to the chat API"
        assert all(isinstance(token, int) and token >= 0 for token in prompt)
        return
    for message in prompt:
        assert isinstance(message, Mapping)
        assert message["role"] in ("system", "user", "assistant", "tool", "developer")
        assert "content" in message
