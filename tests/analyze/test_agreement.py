"""Generators set side by side: known differences are found and explained, equal ones are not called different."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_d_benchmark.analyze.agreement import judge, mover
from llm_d_benchmark.analyze.run import analyze
from llm_d_benchmark.domain.events import Event, EventType
from llm_d_benchmark.domain.records import Ragged, Records
from llm_d_benchmark.domain.result import Agreement, Difference, Measured, MetricAgreement, RunResult
from llm_d_benchmark.loadgen.registry import known_of

from ..support.records import START, S, make_records, run_input, stage_events

GAP = 100 * S


def ran(*stages: tuple[str, Records, dict[str, Any]], seconds: float = 40.0) -> RunResult:
    """A run of these stages, each by a generator of its own: its name, records, and the load and ``told``."""
    events: list[Event] = []
    for index, (name, _, how) in enumerate(stages):
        begun = START + index * GAP
        told = how.pop("told", None)
        position = how.pop("position", index)
        made = stage_events(seconds, index=index, start=begun, **how)
        events.append(Event(EventType.GENERATOR_START, begun, {"generator": name, "index": position}))
        for e in made:
            more = {"generator": name} if e.type is EventType.STAGE_START else {}
            if e.type is EventType.STAGE_END:
                more |= {"known": dict(known_of(name)), **({"told": told} if told else {})}
            events.append(Event(e.type, e.time, {**e.data, **more}))
    generators = [{"type": name} for name, _, _ in stages]
    spec = {"benchmark": {"load_generators": generators}}
    return analyze(run_input([records for _, records, _ in stages], events, spec=spec))


def requests(stage: int, n: int = 400, **how: Any) -> Records:
    return make_records(n, stage=stage, seed=how.pop("seed", stage), start=START + stage * GAP, **how)


def metric(group: Agreement, name: str) -> MetricAgreement:
    return next(m for m in group.metrics if m.metric == name)


def verdicts(group: Agreement) -> dict[str, str]:
    return {m.metric: m.differences[0].verdict for m in group.metrics if m.differences}


def only(result: RunResult, name: str) -> Difference:
    (group,) = result.agreement
    (found,) = metric(group, name).differences
    return found


def codes(difference: Difference) -> list[str]:
    return [w.code for w in difference.whys]


def test_equal_generators_agree() -> None:
    result = ran(("native", requests(0), {}), ("guidellm", requests(1), {}))
    (group,) = result.agreement
    assert (group.load, group.stages) == ("10/s constant", [0, 1])
    found = verdicts(group)
    assert "differ" not in found.values()
    assert {found[n] for n in ("requests_per_second", "tpot.p50", "input_length", "output_length")} == {"agree"}
    assert found["error_rate"] == "inconclusive", "no failure in 400 requests does not show less than one in a hundred"
    assert found["ttft.p50"] in ("agree", "inconclusive")
    reading = metric(group, "ttft.p50").readings[0]
    assert isinstance(reading.value, Measured)
    assert reading.low is not None
    assert reading.low < reading.value.value < (reading.high or 0)


def test_a_difference_is_found_with_its_size_and_stays_unexplained_where_the_data_show_no_cause() -> None:
    result = ran(("native", requests(0), {}), ("guidellm", requests(1, ttft=0.06), {}))
    found = only(result, "ttft.p50")
    assert found.verdict == "differ"
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.2 < found.high
    assert list(found.whys) == []
    assert only(result, "tpot.p50").verdict != "differ"


def test_longer_prompts_explain_a_later_first_token_and_not_a_sooner_one() -> None:
    long = {"input_tokens": 64}
    result = ran(("native", requests(0), {}), ("aiperf", requests(1, ttft=0.06, **long), {}))
    assert codes(only(result, "ttft.p50")) == ["input_length"]
    assert "native 32 tokens, aiperf 64 tokens" in only(result, "ttft.p50").whys[0].message
    result = ran(("native", requests(0), {}), ("aiperf", requests(1, ttft=0.04, **long), {}))
    assert codes(only(result, "ttft.p50")) == []


@pytest.mark.parametrize(("chat", "why"), [(40, ["endpoint"]), (8, [])])
def test_a_chat_template_explains_longer_prompts_of_the_chat_and_not_shorter_ones(chat: int, why: list[str]) -> None:
    sides = [("native", chat, "chat"), ("vllm-bench", 32, "completions")]
    for order in (sides, sides[::-1]):
        result = ran(
            *((name, requests(i, input_tokens=n), {"endpoint": end}) for i, (name, n, end) in enumerate(order))
        )
        assert codes(only(result, "input_length")) == why


@pytest.mark.parametrize(
    ("chat", "asked", "why"),
    [((65, 60), 32, ["asked"]), ((60, 60), 32, ["asked"]), ((80, 40), 32, ["asked", "endpoint"])],
)
def test_a_chat_template_explains_no_more_than_the_lengths_asked_for_leave(
    chat: tuple[int, int], asked: int, why: list[str]
) -> None:
    got, wanted = chat
    result = ran(
        ("native", requests(0, input_tokens=got, input_asked=wanted), {"endpoint": "chat"}),
        ("vllm-bench", requests(1, input_tokens=asked, input_asked=asked), {"endpoint": "completions"}),
    )
    assert codes(only(result, "input_length")) == why


def joined(records: Records) -> Records:
    """The same answers with every second chunk in one with the one before."""
    chunks = records.ragged("chunk_times")
    halves = Ragged.from_lists([chunks.row(i)[::2] for i in range(len(chunks))])
    return Records(dict(records.columns) | {"chunk_times": halves})


@pytest.mark.parametrize(("chunks", "why"), [(True, ["chunks"]), (False, [])])
def test_fewer_chunks_for_each_token_explain_longer_gaps_and_shorter_answers_do_not(
    chunks: bool, why: list[str]
) -> None:
    other = joined(requests(1)) if chunks else requests(1, tokens=8, itl=0.015)
    result = ran(("native", requests(0), {}), ("inference-perf", other, {}))
    found = only(result, "itl.p50")
    assert found.verdict == "differ"
    assert [code for code in codes(found) if code == "chunks"] == why


def test_fewer_requests_in_flight_than_asked_for_explain_a_faster_answer() -> None:
    closed = {"rate": None, "concurrency": 8}
    busy = requests(0, 800, rate=20, ttft=0.1, itl=0.02)
    idle = requests(1, 400, rate=10, ttft=0.05, itl=0.01)
    result = ran(("native", busy, dict(closed)), ("guidellm", idle, dict(closed)))
    found = only(result, "ttft.p50")
    assert (found.verdict, codes(found)) == ("differ", ["concurrency"])
    assert "8 were asked for" in found.whys[0].message
    assert "guidellm caps its streams" in found.whys[0].message
    assert codes(only(result, "output_tokens_per_second")) == ["concurrency"]


def moved(records: Records, ns: Any, names: Sequence[str]) -> Records:
    """The same requests with these times later, by so much each."""
    return Records(dict(records.columns) | {name: records.ints(name) + ns for name in names})


TIMES = ("scheduled", "ready", "sent", "first_token", "last_token", "end")


@pytest.mark.parametrize(("part", "ttft", "why"), [(180, 0.05, ["not_steady"]), (40, 0.06, [])])
def test_an_unsteady_start_explains_only_what_it_changed(part: int, ttft: float, why: list[str]) -> None:
    """Nearly half of the answers late move the median; a tenth is not why a whole stage is slower by a fifth."""
    late = np.where(np.arange(400) < part, 0.1 * S, 0).astype(np.int64)
    unsteady = moved(requests(1, ttft=ttft), late, TIMES[3:])
    result = ran(("native", requests(0), {}), ("guidellm", unsteady, {}))
    assert result.stages[1].steady_state.steady is False
    found = only(result, "ttft.p50")
    assert (found.verdict, codes(found)) == ("differ", why)


@pytest.mark.parametrize(("together", "why"), [(True, ["arrivals"]), (False, [])])
def test_users_that_send_together_wait_for_each_others_prompts(together: bool, why: list[str]) -> None:
    """A closed loop of four: all at once every 0.4 s, or one every 0.1 s, as another client's pauses have it."""
    closed = {"rate": None, "concurrency": 4}
    early = -(np.arange(400) % 4) * S // 10 if together else 0
    burst = moved(requests(0, ttft=0.07, itl=0.022), early, TIMES)
    result = ran(("native", burst, dict(closed)), ("aiperf", requests(1, itl=0.022), dict(closed)))
    found = only(result, "ttft.p50")
    assert (found.verdict, codes(found)) == ("differ", why)
    assert codes(only(result, "tpot.p50")) == []


def test_a_constant_load_that_is_not_constant_is_why() -> None:
    rng = np.random.default_rng(5)
    records = requests(1, 400, ttft=0.07)
    late = np.sort(rng.uniform(0, 40 * S, 400).astype(np.int64)) - np.round(np.arange(400) / 10 * S).astype(np.int64)
    result = ran(("native", requests(0), {}), ("inference-perf", moved(records, late, TIMES), {}))
    found = only(result, "ttft.p50")
    assert codes(found) == ["arrivals"]
    assert "exponential gaps" in found.whys[0].message


def test_tokens_counted_by_others_explain_the_time_per_token() -> None:
    counted = requests(1)
    columns = dict(counted.columns)
    columns["output_tokens"] = counted.ints("output_tokens") * 3
    columns["output_source"] = Records.from_rows([{"output_source": "tokenizer"}] * 400).columns["output_source"]
    result = ran(("native", requests(0), {}), ("aiperf", Records(columns), {}))
    assert codes(only(result, "tpot.p50")) == ["token_counts"]
    assert "re-tokenises" in only(result, "tpot.p50").whys[0].message
    assert codes(only(result, "output_length")) == ["token_counts"]
    assert only(result, "e2e.p50").verdict != "differ"


def test_errors_explain_missing_throughput() -> None:
    result = ran(("native", requests(0), {}), ("vllm-bench", requests(1, failed=80), {}))
    assert only(result, "error_rate").verdict == "differ"
    assert only(result, "error_rate").difference == pytest.approx(0.2)
    assert codes(only(result, "requests_per_second")) == ["errors"]


def test_a_generator_that_differs_from_itself_is_evidence_of_drift() -> None:
    stages = [("native", 0.05, 0), ("guidellm", 0.07, 1), ("native", 0.07, 0), ("guidellm", 0.09, 1)]
    result = ran(*((name, requests(i, ttft=t), {"position": p}) for i, (name, t, p) in enumerate(stages)))
    (group,) = result.agreement
    found = metric(group, "ttft.p50").differences
    assert [(d.first, d.second) for d in found] == [(0, 1), (2, 3)], "first turn with first, second with second"
    assert all("drift" in codes(d) for d in found)


def test_a_generator_that_is_listed_twice_is_one() -> None:
    stages = [("native", 0.05), ("guidellm", 0.07), ("native", 0.06)]
    (group,) = ran(*((name, requests(i, ttft=t), {}) for i, (name, t) in enumerate(stages))).agreement
    found = metric(group, "ttft.p50").differences
    assert [(d.first, d.second) for d in found] == [(0, 1)], "the second native has no partner, and is evidence"
    assert "drift" in codes(found[0])
    assert group.stages == [0, 1, 2]


def test_a_client_that_takes_its_time_between_requests_explains_late_answers_and_not_early_ones() -> None:
    closed = {"rate": None, "concurrency": 8}
    slow = requests(1, 800, rate=20, ttft=0.07)  # 4.4 in flight: 180 ms between an answer and the next request
    quick = requests(0, 800, rate=36, ttft=0.05)
    result = ran(("native", quick, dict(closed)), ("guidellm", slow, dict(closed)), seconds=22.0)
    assert "client_pause" in codes(only(result, "ttft.p50"))
    early = requests(1, 800, rate=20, ttft=0.03)
    result = ran(("native", quick, dict(closed)), ("guidellm", early, dict(closed)), seconds=22.0)
    assert "client_pause" not in codes(only(result, "ttft.p50"))


def test_only_the_same_loads_are_compared() -> None:
    assert ran(("native", requests(0), {}), ("guidellm", requests(1, rate=20), {"rate": 20.0})).agreement == []
    assert ran(("native", requests(0), {"position": 0}), ("native", requests(1), {"position": 0})).agreement == []


def told(**figures: float) -> dict[str, Any]:
    reported = {k.replace("__", "."): {"value": v, "unit": "s"} for k, v in figures.items()}
    return {"told": {"reported": reported, "counts": {}, "records": True, "version": "1"}}


def test_a_figure_of_the_tool_is_explained_by_the_definition_that_gives_it() -> None:
    mixed = Records.concat([requests(0, 200, tokens=4, itl=0.03), requests(0, 200, tokens=60, itl=0.01, seed=9)])
    columns = dict(mixed.columns) | {"request_id": np.arange(400)}
    ok = Records(columns)
    after = (ok.ints("last_token") - ok.ints("first_token")) / 1e9
    weighted = float(after.sum() / (ok.ints("output_tokens") - 1).sum())
    result = ran(("guidellm", ok, told(tpot__mean=weighted, ttft__mean=0.09)))
    found = {f.metric: f for f in result.agreement[0].own_figures}
    assert [w.code for w in found["tpot.mean"].whys] == ["token_weighted"]
    assert found["ttft.mean"].whys == [], "no definition gives that"
    assert found["ttft.mean"].difference == pytest.approx(0.8, abs=0.1)


def test_figures_within_rounding_and_interpolation_are_not_told() -> None:
    records = requests(0)
    ttft = (records.ints("first_token") - records.ints("sent")) / 1e9
    figures = told(ttft__mean=float(ttft.mean()) * 1.001, ttft__p99=float(np.quantile(ttft, 0.99)))
    assert ran(("aiperf", records, figures)).agreement == []


def test_a_summary_of_more_requests_than_were_kept_says_so() -> None:
    how = told(ttft__mean=0.09)
    how["told"]["counts"] = {"sent": 4000}
    (figure,) = ran(("guidellm", requests(0), how)).agreement[0].own_figures
    assert [w.message for w in figure.whys] == ["it counts 4000 requests, and kept 400 of them"]


def test_failures_counted_as_nothing_explain_a_mean() -> None:
    records = requests(0, failed=80)
    good = records.labels("status").is_("ok")
    e2e = ((records.ints("end") - records.ints("sent")) / 1e9)[good]
    result = ran(("aiperf", records, told(e2e__mean=float(e2e.sum() / 400))))
    assert [w.code for w in result.agreement[0].own_figures[0].whys] == ["failed_as_zero"]


def test_false_alarms_in_groups_of_three_equal_generators_are_rare() -> None:
    """Requests of one server are correlated in time; 5 % of the groups may show a difference, by the promise."""
    alarms = 0
    groups = 10
    for seed in range(groups):
        result = ran(*((name, queued(stage, 100 * seed + stage), {}) for stage, name in enumerate("abc")), seconds=30.0)
        alarms += any(d.verdict == "differ" for m in result.agreement[0].metrics for d in m.differences)
    assert alarms <= 2, "1 is expected at most; docs/agreement.md has a longer series"


def queued(stage: int, seed: int, n: int = 300) -> Records:
    """TTFT that follows a queue: log-normal around an autoregressive level."""
    rng = np.random.default_rng(seed)
    level = np.zeros(n)
    for i in range(1, n):
        level[i] = 0.8 * level[i - 1] + 0.2 * rng.normal()
    ttft = 0.05 * np.exp(level + 0.2 * rng.normal(size=n))
    sent = START + stage * GAP + np.round(np.arange(n) / 10 * S).astype(np.int64)
    gaps = rng.normal(0.01, 0.001, (n, 15)).clip(1e-3)
    rows = []
    for i in range(n):
        times = np.rint(np.concatenate([[ttft[i]], ttft[i] + np.cumsum(gaps[i])]) * 1e6).astype(np.int32)
        at, number = int(sent[i]), stage * 1000 + i
        first, last = at + int(times[0]) * 1000, at + int(times[-1]) * 1000
        row = {"request_id": number, "stage": stage, "model": "m", "session": number, "turn": 0, "scheduled": at}
        row |= {"ready": at, "sent": at, "first_token": first, "last_token": last, "end": last, "chunk_times": times}
        row |= {"streaming": True, "status": "ok", "input_tokens": 32, "input_source": "usage"}
        rows.append(row | {"output_tokens": 16, "output_source": "usage"})
    return Records.from_rows(rows)


@given(x=st.floats(0.1, 100), y=st.floats(0.1, 100), a=st.floats(0, 0.9), b=st.floats(0, 0.9), relative=st.booleans())
def test_limits_of_a_difference_hold_it_and_mirror(x: float, y: float, a: float, b: float, relative: bool) -> None:
    one, other = (x * (1 - a), x * (1 + a)), (y * (1 - b), y * (1 + b))
    low, high = mover(x, one, y, other, relative=relative)
    amount = y / x - 1 if relative else y - x
    assert low - 1e-9 * abs(low) - 1e-12 <= amount <= high + 1e-9 * abs(high) + 1e-12
    back_low, back_high = mover(y, other, x, one, relative=relative)
    mirrored: Sequence[float] = (1 / (1 + high) - 1, 1 / (1 + low) - 1) if relative else (-high, -low)
    assert (back_low, back_high) == pytest.approx(mirrored, rel=1e-6, abs=1e-9)


def test_the_verdicts() -> None:
    assert judge(0.2, 0.1, 0.3, 0.05) == "differ"
    assert judge(0.01, -0.02, 0.04, 0.05) == "agree"
    assert judge(0.03, 0.01, 0.049, 0.05) == "agree", "sure, but of no practical matter"
    assert judge(0.2, -0.1, 0.5, 0.05) == "inconclusive"
    assert judge(0.04, 0.01, 0.07, 0.05) == "inconclusive"


def test_connections_that_a_tool_counts_in_explain_what_another_measured_for_one() -> None:
    native = requests(0, connect=9_000_000)
    result = ran(("native", native, {}), ("fmperf", requests(1, ttft=0.06), {}))
    found = only(result, "ttft.p50")
    assert codes(found) == ["connections"]
    assert "9 ms as native measured it" in found.whys[0].message
    assert codes(only(ran(("native", native, {}), ("aiperf", requests(1, ttft=0.06), {})), "ttft.p50")) == []


def test_a_rate_however_regular_is_uncertain_at_the_ends_of_its_window() -> None:
    result = ran(("native", requests(0), {}), ("guidellm", requests(1), {}))
    reading = metric(result.agreement[0], "requests_per_second").readings[0]
    assert isinstance(reading.value, Measured)
    assert reading.high is not None
    assert reading.high - reading.value.value >= 1 / 40
