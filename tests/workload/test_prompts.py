"""What the workloads send: unique where it should be, shared where it should be, of the lengths asked."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_d_benchmark.config.load import ModelShare
from llm_d_benchmark.domain.errors import ConfigError
from llm_d_benchmark.domain.schedule import Session, Shard, Turn
from llm_d_benchmark.loadgen.native.feeder import Dealer, bounded
from llm_d_benchmark.testing.workload import WordCountSizer
from llm_d_benchmark.workload.api import WorkloadContext
from llm_d_benchmark.workload.conversation import ConversationWorkload
from llm_d_benchmark.workload.seeds import Streams, Use, generator
from llm_d_benchmark.workload.sizers import TokenIdSizer, array_of
from tests.workload.support import closed, schedule, workload


def turns(options: dict[str, Any], count: int, *, stage: int = 0, seed: int = 1, endpoint: str = "chat") -> list[Turn]:
    contents = workload(options, endpoint).contents(closed(stage), seed)
    return [content.turns[0] for content in islice(contents, count)]


def words(prompt: Any) -> list[str]:
    assert isinstance(prompt, str)
    return prompt.split()


def test_no_two_prompts_begin_alike_within_and_across_stages() -> None:
    got = [t for stage in range(3) for t in turns({"type": "synthetic", "input_length": 20}, 400, stage=stage)]
    assert len({tuple(words(t.prompt)[:2]) for t in got}) == len(got)


def test_the_servers_own_tokens_are_part_of_the_length() -> None:
    (turn,) = turns({"type": "synthetic", "input_length": 20, "output_length": 5}, 1)
    assert (len(words(turn.prompt)), turn.input_asked, turn.output_asked) == (17, 20, 5)


def test_a_length_below_the_servers_own_tokens_is_still_what_was_asked() -> None:
    (turn,) = turns({"type": "synthetic", "input_length": 2}, 1)
    assert (len(words(turn.prompt)), turn.input_asked) == (1, 2)


def test_shared_prefixes_are_shared_and_questions_are_not() -> None:
    options = {"type": "shared_prefix", "groups": 4, "prefix_length": 30, "question_length": 6}
    groups: dict[str, list[str]] = defaultdict(list)
    for turn in turns(options, 200):
        assert turn.input_asked == 30 + 6 + 3
        assert len(words(turn.prompt)) == 36
        groups[" ".join(words(turn.prompt)[:30])].append(" ".join(words(turn.prompt)[30:]))
    assert len(groups) == 4
    assert min(map(len, groups.values())) > 20
    questions = [q for found in groups.values() for q in found]
    assert len(set(questions)) == 200


def test_numbered_questions_come_again_in_their_own_group_only() -> None:
    options = {"type": "shared_prefix", "groups": 3, "prompts_per_group": 5, "prefix_length": 20}
    seen = Counter(t.prompt for t in turns(options, 300))
    assert len(seen) == 15
    assert len({" ".join(words(p)[20:]) for p in seen}) == 15


@pytest.mark.parametrize("share", [False, True])
def test_prefixes_cross_stages_only_where_asked(share: bool) -> None:
    options = {"type": "shared_prefix", "groups": 3, "prefix_length": 20, "share_across_stages": share}
    first, second = ({" ".join(words(t.prompt)[:20]) for t in turns(options, 60, stage=i)} for i in (0, 1))
    assert (first == second) is share
    assert bool(first & second) is share


def test_conversations_have_turns_a_system_prompt_and_think_time() -> None:
    options = {
        "type": "conversation", "turns": 3, "system_length": 11, "first_length": 40, "input_length": 7,
        "output_length": 9, "think_time": 2, "think_distribution": "constant",
    }  # fmt: skip
    contents = list(islice(workload(options).contents(closed(), 1), 5))
    systems = set()
    for content in contents:
        first, *others = content.turns
        system, user = first.prompt
        assert (system["role"], user["role"]) == ("system", "user")  # type: ignore[index,call-overload]
        systems.add(system["content"])  # type: ignore[index,call-overload]
        assert len(user["content"].split()) == 40  # type: ignore[index,call-overload]
        assert first.think_s == 0
        assert first.input_asked is None
        for turn in others:
            (message,) = turn.prompt
            assert len(message["content"].split()) == 7  # type: ignore[index,call-overload]
            assert (turn.think_s, turn.output_asked, turn.input_asked) == (2.0, 9, None)
    assert len(contents[0].turns) == 3
    assert len(systems) == 1


def test_think_time_is_exponential_by_default() -> None:
    options = {"type": "conversation", "turns": 2, "think_time": 3}
    thinks = [c.turns[1].think_s for c in islice(workload(options).contents(closed(), 1), 3000)]
    assert sum(thinks) / 3000 == pytest.approx(3, rel=0.06)
    assert sum(t > 3 for t in thinks) / 3000 == pytest.approx(math.exp(-1), abs=0.03)


def test_a_conversation_for_completions_is_text_of_known_first_length() -> None:
    options = {"type": "conversation", "turns": 2, "system_length": 11, "input_length": 7}
    (content,) = islice(workload(options, "completions").contents(closed(), 1), 1)
    assert len(words(content.turns[0].prompt)) == 18
    assert content.turns[0].input_asked == 7 + 11 + 3
    assert str(content.turns[1].prompt).startswith("\n")


def test_a_conversation_cannot_be_of_token_ids() -> None:
    context = WorkloadContext(TokenIdSizer(array_of(list(range(50))), 0, 0.0), "completions", {"type": "conversation"})
    with pytest.raises(ConfigError, match="cannot be token ids"):
        next(ConversationWorkload(context).contents(closed(), 1))


OPTIONS = [
    {"type": "synthetic", "input_length": 5},
    {"type": "shared_prefix", "prefix_length": 5, "question_length": 3},
    {"type": "conversation", "input_length": 3, "turns": {"distribution": "uniform", "min": 1, "max": 4}},
]


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(OPTIONS), st.integers(1, 4), st.integers(1, 4), st.integers(1, 60), st.none() | st.integers(1, 9)
)
def test_shards_and_their_workers_are_a_partition(
    options: dict[str, Any], machines: int, workers: int, requests: int, users: int | None
) -> None:
    def whole() -> list[Session]:
        return list(bounded(schedule(options).sessions(closed(1)), requests))

    everything = whole()
    parts: list[Sequence[Session]] = []
    for index in range(machines):
        shard = Shard(index, machines)
        dealer = Dealer(iter(whole()), users, shard, workers)
        own = [list(dealer.hand(worker)) for worker in range(workers)]
        assert sum(map(len, own)) == shard.sessions(len(everything), users)
        for mine, worker in zip(own, shard.split(workers), strict=True):
            assert len(mine) == worker.sessions(len(everything), users)
        parts += own
    dealt = [session for part in parts for session in part]
    assert sorted(dealt, key=lambda s: s.session_id) == everything
    assert sum(len(s.turns) for s in dealt) == requests
    ids = sorted(s.first_request_id + t for s in dealt for t in range(len(s.turns)))
    assert ids == list(range(2**32, 2**32 + requests))
    assert all(list(part) == sorted(part, key=lambda s: s.session_id) for part in parts)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5))
def test_a_shard_has_as_many_of_the_sessions_as_it_has_of_the_users(users: int, count: int, rounds: int) -> None:
    shards = [Shard(index, count) for index in range(count)]
    assert sum(s.share(users) for s in shards) == users
    assert sum(s.fraction(users) for s in shards) == pytest.approx(1)
    for shard in shards:
        assert shard.sessions(users * rounds, users) == shard.share(users) * rounds
        assert shard.fraction(users) == shard.share(users) / users
        assert shard.fraction() == 1 / count


def test_models_are_drawn_by_weight() -> None:
    shares = (ModelShare(name="a", weight=3), ModelShare(name="b", weight=1))
    drawn = Counter(s.model for s in islice(schedule(OPTIONS[0], models=shares).sessions(closed()), 4000))
    assert drawn["a"] / 4000 == pytest.approx(0.75, abs=0.03)
    assert set(drawn) == {"a", "b"}
    assert next(schedule(OPTIONS[0]).sessions(closed())).model == "default-model"


@given(st.integers(-(2**70), 2**70), st.tuples(st.integers(0, 2**40), st.integers(-(2**63), 2**63)), st.integers(0, 9))
def test_a_stream_depends_on_its_position_and_on_nothing_before(seed: int, place: tuple[int, int], used: int) -> None:
    streams = Streams(seed, Use.PROMPT)
    streams.at(1, 2).integers(5, size=used + 1)
    assert (
        streams.at(*place).integers(2**62, size=4).tolist()
        == generator(seed, Use.PROMPT, *place).integers(2**62, size=4).tolist()
    )


def test_streams_of_neighbours_uses_and_seeds_differ() -> None:
    places = [(1, Use.PROMPT, (0, 0)), (1, Use.PROMPT, (0, 1)), (1, Use.PROMPT, (1, 0)), (1, Use.LENGTH, (0, 0)),
              (2, Use.PROMPT, (0, 0)), (-1, Use.PROMPT, (0, 0))]  # fmt: skip
    draws = {tuple(generator(s, u, *p).integers(2**62, size=3).tolist()) for s, u, p in places}
    assert len(draws) == len(places)


def test_the_conformance_sizer_counts_words() -> None:
    assert WordCountSizer().count("one two") == 2
