"""The sweep finds the capacity of simulated servers whose capacity is known, and stops as it should."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import takewhile
from typing import Any

import numpy as np
import pytest

from llm_d_benchmark.config.load import LoadConfig, Sweep
from llm_d_benchmark.domain.saturation import Knee, Level, chance, edge, knee
from llm_d_benchmark.domain.schedule import Load, Stage, StageOutcome
from llm_d_benchmark.workload.arrivals import offsets
from llm_d_benchmark.workload.stages import FixedStages, stage_source
from llm_d_benchmark.workload.sweep import SweepSource, level_of

SERVERS = 16
SERVICE_S = 0.5
RATE = SERVERS / SERVICE_S
Serve = Callable[[Stage], StageOutcome]


def queue(seed: int, *, spread: float = 0.5, service_s: float = SERVICE_S) -> Serve:
    """A server of 16 places and a queue: gamma service times with this coefficient of variation. TTFT is the wait and
    a tenth of the service."""
    rng = np.random.default_rng(seed)

    def serve(stage: Stage) -> StageOutcome:
        length = stage.load_s or 0.0
        free = [0.0] * SERVERS
        times: list[tuple[float, float, float]] = []

        def one(arrival: float) -> float:
            service = float(rng.gamma(1 / spread**2, service_s * spread**2))
            start = max(arrival, heapq.heappop(free))
            heapq.heappush(free, start + service)
            times.append((start + service, start - arrival + service / 10, start + service - arrival))
            return start + service

        if stage.load.open_loop:
            for offset in offsets(stage, int(rng.integers(2**30))):
                if offset >= length:
                    break
                one(offset)
        else:
            users = [0.0] * (stage.load.concurrency or 0)
            while users[0] < length:
                heapq.heapreplace(users, one(users[0]))
        window = [t for t in times if stage.warmup_s <= t[0] < length]
        seconds = length - stage.warmup_s
        return StageOutcome(
            stage, len(times), len(times), 0, seconds, len(window) / seconds, 0.0,
            ttft_p50=float(np.median([t[1] for t in window])) if window else None,
            e2e_p50=float(np.median([t[2] for t in window])) if window else None,
        )  # fmt: skip

    return serve


def search(sweep: Sweep, serve: Serve, *, arrival: str = "constant", seconds: float = 60.0) -> tuple[Knee, list[Stage]]:
    source = SweepSource(sweep, Stage(3, "", Load(arrival={"type": arrival}), duration_s=seconds))
    outcome, stages, levels = None, [], []
    while (stage := source.next(outcome)) is not None:
        outcome = serve(stage)
        stages.append(stage)
        levels.append(level_of(outcome, stage.load.rate or float(stage.load.concurrency or 0)))
    return knee(levels, sweep.over), stages


@pytest.mark.parametrize("arrival", ["constant", "poisson"])
@pytest.mark.parametrize("start", [1.0, 7.0, 400.0])
def test_a_rate_is_found_within_a_tenth(arrival: str, start: float) -> None:
    found = []
    for seed in range(6):
        got, stages = search(Sweep(over="rate", start=start, refine=4), queue(seed), arrival=arrival)
        assert got.load is not None
        assert got.beyond is not None
        found.append(got.load / RATE)
        assert [s.index for s in stages] == list(range(3, 3 + len(stages)))
    assert np.median(found) == pytest.approx(1, abs=0.07)
    assert max(abs(x - 1) for x in found) <= 0.1, found


@pytest.mark.parametrize("start", [1, 3, 100])
def test_a_concurrency_is_found_within_a_tenth(start: int) -> None:
    found = []
    for seed in range(6):
        got, _ = search(Sweep(over="concurrency", start=start, refine=4), queue(seed))
        assert got.load is not None
        found.append(got.load / SERVERS)
    assert max(abs(x - 1) for x in found) <= 0.1, found


def test_requests_that_are_long_beside_the_window_are_no_lack_of_throughput() -> None:
    got, _ = search(Sweep(over="rate", start=0.25, refine=3), queue(1, service_s=8.0), seconds=60.0)
    assert got.load is not None
    assert got.load == pytest.approx(SERVERS / 8.0, rel=0.2)


def test_it_stops_at_the_greatest_load() -> None:
    got, stages = search(Sweep(over="rate", start=1.0, max=10.0), queue(0))
    assert [s.load.rate for s in stages] == [1.0, 2.0, 4.0, 8.0, 10.0]
    assert (got.load, got.beyond) == (10.0, None)
    _, stages = search(Sweep(over="rate", start=50.0, max=10.0), queue(0))
    assert [s.load.rate for s in stages] == [10.0]


def test_it_measures_no_more_stages_than_allowed() -> None:
    _, stages = search(Sweep(over="rate", start=1.0, max_stages=3), queue(0))
    assert [s.load.rate for s in stages] == [1.0, 2.0, 4.0]


def test_refinement_can_be_left_out() -> None:
    got, stages = search(Sweep(over="rate", start=1.2, refine=0), queue(0))
    assert len(stages) == 6
    assert (got.load, got.beyond) == (19.2, 38.4)


def test_it_stops_when_the_client_is_the_bottleneck() -> None:
    def limited(stage: Stage) -> StageOutcome:
        load = stage.load.rate or 0.0
        return StageOutcome(stage, 60, 60, 0, 60.0, load, 0.0, client_limited=load >= 8)

    _, stages = search(Sweep(over="rate", start=1.0), limited)
    assert [s.load.rate for s in stages] == [1.0, 2.0, 4.0, 8.0]


def test_a_server_that_answers_nothing_ends_the_sweep() -> None:
    def dead(stage: Stage) -> StageOutcome:
        return StageOutcome(stage, 60, 0, 60, 60.0, 0.0, 0.0)

    for over in ("rate", "concurrency"):
        got, stages = search(Sweep(over=over, start=8.0, max_stages=5), dead)  # type: ignore[arg-type]
        assert got.load is None
        assert "60 of" not in got.reason
        assert len(stages) <= 5
        assert "failed" in got.reason


def test_what_is_planned_bounds_what_is_run() -> None:
    source = SweepSource(Sweep(over="rate", start=1.0, max=6.0), Stage(3, "", Load(), duration_s=5.0))
    planned = source.planned()
    assert [s.load.rate for s in planned][:4] == [1.0, 2.0, 4.0, 6.0]
    assert len(planned) == 16
    assert [s.index for s in planned] == list(range(3, 19))


def levels(*pairs: tuple[float, float], **options: Any) -> list[Level]:
    return [Level(load, done, 0.0, **options) for load, done in pairs]


class TestKnee:
    def test_order_does_not_matter(self) -> None:
        some = levels((1, 1), (2, 2), (4, 3), (3, 2.9))
        want = knee(some, "rate")
        assert (want.load, want.beyond) == (3, 4)
        assert knee(some[::-1], "rate") == want

    def test_failures_decide(self) -> None:
        assert knee([Level(1, 1, 0.0), Level(2, 2, 0.06)], "rate").reason == "6% of the requests failed"

    def test_goodput_decides_where_there_are_limits(self) -> None:
        good = [
            Level(1, 1, 0.0, 0.1, goodput=1.0),
            Level(2, 2, 0.0, 9.0, goodput=1.95),
            Level(4, 4, 0.0, 9.0, goodput=3),
        ]
        got = knee(good, "rate")
        assert (got.load, got.beyond) == (2, 4)
        assert "only 3 of 4 requests/s met the limits" in got.reason

    def test_a_growing_queue_shows_in_the_time_to_the_first_token(self) -> None:
        got = knee([Level(1, 1, 0.0, 0.1), Level(2, 2, 0.0, 0.9), Level(4, 4, 0.0, 1.1)], "rate")
        assert (got.load, got.beyond) == (2, 4)
        assert "median TTFT grew from 0.1 s to 1.1 s" in got.reason

    def test_chance_is_allowed_for(self) -> None:
        assert knee(levels((10, 9.1)), "rate").load is None
        assert knee(levels((10, 9.1), chance=0.05), "rate").load == 10
        assert chance("constant", 100) == 0.02
        assert chance("poisson", 400) == pytest.approx(0.1)
        assert chance("gamma", 400, 0.25) == pytest.approx(0.2)

    def test_requests_under_way_at_the_end_are_allowed_for(self) -> None:
        assert edge(6.0, 0.0, 60.0) == pytest.approx(0.1)
        assert edge(6.0, 10.0, 60.0) == 0.0
        assert edge(1000.0, 0.0, 60.0) == 0.5
        assert edge(None, 0.0, 60.0) == 0.0
        assert knee(levels((10, 8.6), edge=0.1), "rate").load == 10

    def test_nothing_measured_and_nothing_found(self) -> None:
        assert knee([], "rate") == Knee(None, None, "nothing was measured")
        assert "beyond" in knee(levels((1, 1), (2, 2)), "rate").reason

    def test_nothing_completed_is_no_division_by_zero(self) -> None:
        got = knee(levels((1, 0), (2, 2)), "concurrency")
        assert got == Knee(None, 1, "nothing was completed")


def stages_of(config: dict[str, Any]) -> list[Stage]:
    load = LoadConfig.model_validate(config)
    source = stage_source(load, duration_s=60.0, warmup_s=5.0, cooldown_s=2.0, first_index=4, endpoint="chat")
    assert isinstance(source, FixedStages)
    return list(source.planned())


class TestStages:
    def test_defaults_come_from_above(self) -> None:
        (only,) = stages_of({"concurrency": 3})
        assert (only.index, only.duration_s, only.warmup_s, only.cooldown_s, only.load_s) == (4, 60, 5, 2, 67)

    def test_a_number_of_requests_bounds_alone_unless_a_duration_is_set(self) -> None:
        shapes = [{"concurrency": 1, "num_requests": 9}, {"concurrency": 1, "num_requests": 9, "duration": "3s"}]
        first, second = stages_of({"stages": shapes})
        assert (first.duration_s, first.num_requests) == (None, 9)
        assert (second.duration_s, second.num_requests) == (3, 9)

    def test_a_rate_that_takes_its_course_always_has_a_duration(self) -> None:
        (only,) = stages_of({"num_requests": 9, "arrival": {"type": "ramp", "from": 1.0, "to": 2.0}})
        assert (only.duration_s, only.num_requests) == (60, 9)
        assert len(list(takewhile(lambda offset: offset < 67, offsets(only, 1)))) > 9

    def test_stages_end(self) -> None:
        source = FixedStages(stages_of({"concurrency": 3}))
        assert source.next(None) is not None
        assert source.next(None) is None


def test_a_sweep_over_rate_keeps_a_cap_that_was_asked_for() -> None:
    def loads(**keys: Any) -> set[int | None]:
        config = LoadConfig.model_validate({"sweep": {"over": "rate"}, **keys})
        source = stage_source(config, duration_s=9, warmup_s=0, cooldown_s=0, first_index=0, endpoint="chat")
        return {stage.load.concurrency for stage in source.planned()}

    assert loads(concurrency=8) == {8}
    assert loads() == {None}
    with pytest.raises(ValueError, match="'ramp' starts the users of a closed loop"):
        loads(ramp=5)
