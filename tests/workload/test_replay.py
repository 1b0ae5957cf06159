"""A schedule written as CSV and replayed is the same schedule."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from llm_d_benchmark.config.load import LoadConfig, ModelShare
from llm_d_benchmark.domain.errors import ConfigError
from llm_d_benchmark.domain.schedule import Load, Session, Stage
from llm_d_benchmark.workload.replay import ROW_COLUMNS, csv_line, head_line
from llm_d_benchmark.workload.schedule import SeededSchedule, workload_options
from tests.workload.support import closed, schedule, traced, write

WIDE = {"distribution": "lognormal", "mean": 40, "std_dev": 30, "max": 200}
MODELS = (ModelShare(name="base", weight=3.0), ModelShare(name="lora", weight=1.0))
WORKLOADS: dict[str, dict[str, Any]] = {
    "synthetic": {"type": "synthetic", "input_length": WIDE, "output_length": WIDE},
    "shared_prefix": {"type": "shared_prefix", "groups": 3, "prompts_per_group": 4, "prefix_length": 30},
    "conversation": {
        "type": "conversation",
        "turns": {"distribution": "uniform", "min": 1, "max": 4},
        "think_time": 1,
        "system_length": 9,
    },
}


def rows(sessions: Iterable[Session]) -> Iterator[str]:
    for session in sessions:
        for number, turn in enumerate(session.turns):
            ids = (session.first_request_id + number, session.session_id // 2**32, session.session_id, number)
            yield csv_line((*ids, session.offset_s, session.model, turn.input_asked, turn.output_asked))


def saved(folder: Path, *parts: tuple[dict[str, Any], SeededSchedule, Sequence[Stage]]) -> str:
    """The artifact of what each schedule sends in its stages."""
    heads = [head_line([stage.index for stage in stages], options) for options, _, stages in parts]
    lines = [line for _, made, stages in parts for stage in stages for line in rows(sent(made, stage))]
    return write(folder / "schedule.csv", "".join([*heads, csv_line(ROW_COLUMNS), *lines]))


def sent(made: SeededSchedule, stage: Stage) -> list[Session]:
    """The sessions that the engine would release, cut to the number of requests."""
    count, seconds, out = stage.num_requests, stage.load_s, []
    for session in made.sessions(stage):
        if count == 0 or (seconds is not None and session.offset_s is not None and session.offset_s >= seconds):
            return out
        turns = session.turns if count is None else session.turns[:count]
        out.append(replace(session, turns=turns))
        count = None if count is None else count - len(turns)
    return out


@pytest.mark.parametrize("kind", WORKLOADS)
@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_an_open_loop_of_several_stages_replays_exactly(tmp_path: Path, kind: str, endpoint: str) -> None:
    made = schedule(WORKLOADS[kind], models=MODELS, endpoint=endpoint)
    stages = [
        Stage(0, "poisson", Load(rate=20.0, arrival={"type": "poisson"}), duration_s=5.0, warmup_s=1.0),
        Stage(1, "bursts", Load(rate=7.3, arrival={"type": "gamma", "burstiness": 0.3}), num_requests=33),
        Stage(2, "ramp", Load(arrival={"type": "ramp", "from_rate": 1.0, "to_rate": 9.0}), duration_s=4.0),
    ]
    path = saved(tmp_path, (WORKLOADS[kind], made, stages))
    again = schedule({"type": "trace", "path": path}, endpoint=endpoint)
    replays = [traced(s.index, duration_s=None if s.load_s is None else s.load_s) for s in stages]
    for stage, second in zip(stages, replays, strict=True):
        want = sent(made, stage)
        assert len(want) > 5
        assert list(again.sessions(second)) == want
    assert {s.model for s in sent(made, stages[0])} == {"base", "lora"}


@pytest.mark.parametrize("kind", WORKLOADS)
def test_a_closed_loop_of_so_many_requests_replays_in_its_order(tmp_path: Path, kind: str) -> None:
    made = schedule(WORKLOADS[kind])
    path = saved(tmp_path, (WORKLOADS[kind], made, [closed(num_requests=25)]))
    again = schedule({"type": "trace", "path": path})
    assert list(again.sessions(closed())) == sent(made, closed(num_requests=25))
    with pytest.raises(ConfigError, match="needs a workload with times of its own"):
        next(again.sessions(traced()))


@pytest.mark.parametrize("kind", WORKLOADS)
def test_what_a_closed_loop_released_replays_at_its_own_times(tmp_path: Path, kind: str) -> None:
    made = schedule(WORKLOADS[kind])
    sessions = list(islice(made.sessions(closed(1)), 12))
    # Two workers: every second session started a little early, so that the times are not in the order of positions.
    starts = {s.session_id: i / 3 + (0.5 if i % 2 == 0 else 0.0) for i, s in enumerate(sessions)}
    want = sorted(sessions, key=lambda s: starts[s.session_id])
    want = [replace(s, offset_s=starts[s.session_id]) for s in want]
    want[-1] = replace(want[-1], turns=want[-1].turns[:1])  # the load ended before its other turns
    text = head_line([1], WORKLOADS[kind]) + csv_line(ROW_COLUMNS) + "".join(rows(want))
    path = write(tmp_path / "schedule.csv", text)
    again = list(schedule({"type": "trace", "path": path}).sessions(traced(1)))
    assert [(s.turns, s.offset_s, s.model) for s in again] == [(s.turns, s.offset_s, s.model) for s in want]


def test_what_was_sent_before_the_start_of_its_stage_replays_from_the_start(tmp_path: Path) -> None:
    sessions = list(islice(schedule(WORKLOADS["synthetic"]).sessions(closed(1)), 3))
    early = [replace(s, offset_s=i - 0.5) for i, s in enumerate(sessions)]
    path = write(tmp_path / "schedule.csv", csv_line(ROW_COLUMNS) + "".join(rows(early)))
    again = schedule({"type": "trace", "path": path}).sessions(traced(1))
    assert [s.offset_s for s in again] == [0.0, 1.0, 2.0]


def test_another_seed_keeps_times_and_lengths_and_makes_new_prompts(tmp_path: Path) -> None:
    made = schedule(WORKLOADS["synthetic"])
    stage = Stage(0, "s", Load(rate=5.0), duration_s=4.0)
    options = {"type": "trace", "path": saved(tmp_path, (WORKLOADS["synthetic"], made, [stage]))}
    first, second = (list(schedule(options, seed=seed).sessions(traced())) for seed in (7, 8))
    assert [(s.offset_s, s.turns[0].input_asked) for s in first] == [
        (s.offset_s, s.turns[0].input_asked) for s in second
    ]
    assert all(a.turns[0].prompt != b.turns[0].prompt for a, b in zip(first, second, strict=True))


def test_one_stage_of_a_schedule_can_be_replayed_alone(tmp_path: Path) -> None:
    made = schedule(WORKLOADS["synthetic"])
    stages = [Stage(i, "s", Load(rate=5.0 + i), duration_s=4.0) for i in range(3)]
    path = saved(tmp_path, (WORKLOADS["synthetic"], made, stages))
    alone = list(schedule({"type": "trace", "path": path, "stage": 2}).sessions(traced(0)))
    assert [(s.offset_s, s.turns) for s in alone] == [(s.offset_s, s.turns) for s in sent(made, stages[2])]
    with pytest.raises(ConfigError, match=r"has no stage 5; it has 0, 1, 2"):
        next(schedule({"type": "trace", "path": path}).sessions(traced(5)))


def test_speedup_divides_the_times(tmp_path: Path) -> None:
    path = saved(
        tmp_path,
        (WORKLOADS["synthetic"], schedule(WORKLOADS["synthetic"]), [Stage(0, "s", Load(rate=4.0), num_requests=5)]),
    )
    again = schedule({"type": "trace", "path": path})
    assert [s.offset_s for s in again.sessions(traced(speedup=2.0))] == [0.0, 0.125, 0.25, 0.375, 0.5]


def test_two_load_generators_share_one_artifact(tmp_path: Path) -> None:
    first, second = schedule(WORKLOADS["shared_prefix"]), schedule(WORKLOADS["conversation"])
    one, two = Stage(0, "a", Load(rate=5.0), num_requests=9), Stage(1, "b", Load(rate=5.0), num_requests=9)
    path = saved(tmp_path, (WORKLOADS["shared_prefix"], first, [one]), (WORKLOADS["conversation"], second, [two]))
    again = schedule({"type": "trace", "path": path})
    assert list(again.sessions(traced(0))) == sent(first, one)
    assert list(again.sessions(traced(1))) == sent(second, two)


def test_the_artifact_holds_no_prompt(tmp_path: Path) -> None:
    made = schedule(WORKLOADS["conversation"])
    stage = Stage(0, "s", Load(rate=4.0), num_requests=5)
    text = Path(saved(tmp_path, (WORKLOADS["conversation"], made, [stage]))).read_text()
    assert text.splitlines()[1] == ",".join(ROW_COLUMNS)
    words = {w for s in sent(made, stage) for t in s.turns for m in t.prompt for w in str(m["content"]).split()}  # type: ignore[index,call-overload]
    assert words
    assert not any(word in text for word in words)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("# prompts:", "# prompts: {"), "damaged"),
        (("0,0,0,0,0.0", "0,0,x,0,0.0"), r"schedule.csv:3: session 'x' is not a whole number"),
        (("0,0,0,0,0.0", "0,0,0,0,soon"), r"schedule.csv:3: timestamp 'soon'"),
        (("# prompts:", "# nothing:"), "do not say this session's prompts"),
        (("0,0,0,0,0.0", "0,0,0,0,9.0"), r"schedule.csv:6: the timestamp lies before"),
    ],
)
def test_a_damaged_artifact_is_told_with_its_line(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    made = schedule({"type": "conversation", "turns": 3})
    path = Path(
        saved(tmp_path, ({"type": "conversation", "turns": 3}, made, [Stage(0, "s", Load(rate=4.0), num_requests=6)]))
    )
    text = path.read_text()
    assert change[0] in text
    path.write_text(text.replace(change[0], change[1], 1))
    if "9.0" in change[1]:
        path.write_text(path.read_text().replace("1,0,0,1,0.0", "1,0,0,1,9.0").replace("2,0,0,2,0.0", "2,0,0,2,9.0"))
    with pytest.raises(ConfigError, match=message):
        list(schedule({"type": "trace", "path": str(path)}).sessions(traced()))


def test_the_generators_lengths_are_in_the_workloads_options() -> None:
    load = LoadConfig.model_validate({"concurrency": 1, "input_length": 7, "workload": {"output_length": 3}})
    assert workload_options(load) == {"input_length": {"distribution": "fixed", "value": 7}, "output_length": 3}
