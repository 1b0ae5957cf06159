"""What a search finds is near what is true, at its price; trouble is a result."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import Any

import pytest

from llm_d_benchmark.domain.errors import TargetError
from llm_d_benchmark.domain.study import Settings, StudyMeasurement
from llm_d_benchmark.explore.budget import Budget
from llm_d_benchmark.explore.ledger import Ledger, front
from llm_d_benchmark.explore.search import POLL_S, Explorer, Question
from llm_d_benchmark.explore.sharing import Sharing
from llm_d_benchmark.explore.space import key_of
from llm_d_benchmark.store.board import Board
from tests.explore.synthetic import SERVER, THROUGHPUT, Bench, explored, plan, server

SMALL: dict[str, Any] = {"batch_size": [1, 4, 16, 64], "concurrency": [4, 16, 64], "max_tokens": [128]}
PRESENT: Settings = {"batch_size": 8, "concurrency": 8, "max_tokens": 128}


@pytest.mark.parametrize("method", ["bayesian_optimization", "genetic_algorithm"])
async def test_a_crash_is_learned_as_infeasible(method: str) -> None:
    pytest.importorskip("optuna", reason="needs the [explore] extra")
    asked = plan(SERVER, methods=[method], max_runs=80, finalists=0)
    bench = Bench(server, present=PRESENT)
    bench.crashes = lambda s: int(s["batch_size"]) >= 64
    explorer = await explored(asked, bench)
    crashed = [s for s in explorer.standings() if s.state == "failed"]
    assert crashed
    assert all(s.reason == "it crashed" for s in crashed)
    best = max(server(s)[THROUGHPUT] for s in asked.space.combinations() if not bench.crashes(s))
    assert server(front(asked, explorer.standings())[0].settings)[THROUGHPUT] >= 0.97 * best


async def test_where_everything_fails_the_study_is_given_up() -> None:
    bench = Bench(server, present=PRESENT)
    bench.crashes = lambda _: True
    with pytest.raises(TargetError, match="first 5 runs failed; the last one: it crashed"):
        await explored(plan(SMALL), bench)
    assert len(bench.asked) == 5


async def test_a_limit_without_data_is_broken() -> None:
    asked = plan(SMALL, constraints={"max_cost": "$0.001/token"})
    explorer = await explored(asked, Bench(server, present=PRESENT))
    assert {s.state for s in explorer.standings()} == {"infeasible"}
    assert "max_cost (cost_per_token <= $0.001/token): missing" in explorer.standings()[0].reason


async def test_methods_share_what_was_measured() -> None:
    pytest.importorskip("optuna", reason="needs the [explore] extra")
    asked = plan(SMALL, methods=["grid_search", "bayesian_optimization", "genetic_algorithm"])
    bench = Bench(server, present=PRESENT)
    explorer = await explored(asked, bench)
    assert len(bench.searched()) == 12
    assert all("grid_search" in methods for methods in explorer.ledger.proposed.values())
    assert sum("bayesian_optimization" in m for m in explorer.ledger.proposed.values()) == 12


async def test_the_reference_is_measured_again_and_finalists_run_in_turns() -> None:
    asked = plan(SMALL, reference_every=5, finalists=2, finalist_runs=3)
    bench = Bench(server, present=PRESENT)
    await explored(asked, bench)
    purposes = "".join(q.purpose[0] for q in bench.asked)
    assert purposes == "rsssssrsssssrss" + "f" * 9
    finals = [q.settings for q in bench.asked if q.purpose == "final"]
    assert finals[:3] == finals[3:6][::-1] == finals[6:]
    assert finals[0] is None


async def test_hopeless_configurations_are_not_repeated() -> None:
    asked = plan(SMALL, repeats=6, reference_every=3, finalists=0)
    bench = Bench(server, noise=0.01, present=PRESENT)
    explorer = await explored(asked, bench)
    runs = {s.settings["batch_size"]: 0 for s in explorer.standings()}
    for q in bench.searched():
        assert q.settings is not None
        runs[q.settings["batch_size"]] += 1
    best = front(asked, explorer.standings())[0]
    assert len(best.runs) == 6
    assert len(bench.searched()) < 12 * 6 / 2
    assert runs[1] <= 3 * 2


async def test_repeats_go_on_where_the_noise_demands_it() -> None:
    even = plan({"temperature": [0.1, 0.5, 1.0]}, repeats=4, finalists=0)
    bench = Bench(lambda _: {THROUGHPUT: 100.0}, noise=0.05)
    await explored(even, bench)
    assert len(bench.searched()) >= 11  # now and then one looks hopeless by chance


@pytest.mark.parametrize("methods", [["random_search"], ["bayesian_optimization", "genetic_algorithm"]])
async def test_a_study_goes_on_where_it_was_interrupted(methods: list[str]) -> None:
    if "random_search" not in methods:
        pytest.importorskip("optuna", reason="needs the [explore] extra")
    asked = plan(SERVER, methods=methods, max_runs=40, finalists=2, finalist_runs=2, seed=4)
    whole = Bench(server, present=PRESENT)
    await explored(asked, whole)

    ledger, stop = Ledger(), asyncio.Event()
    first = Bench(server, present=PRESENT)

    async def until_20(q: Question) -> StudyMeasurement:
        found = await first(q)
        if len(first.asked) == 20:
            stop.set()
        return found

    await Explorer(asked, until_20, ledger, stop=stop).run()
    assert len(ledger.runs) == 20
    second = Bench(server, present=PRESENT)
    await explored(asked, second, ledger)
    assert [*first.asked, *second.asked] == whole.asked


@pytest.mark.parametrize("method", ["random_search", "bayesian_optimization"])
async def test_workers_share_a_study_through_its_storage(tmp_path: Any, method: str) -> None:
    pytest.importorskip("optuna", reason="needs the [explore] extra")
    storage = f"sqlite:///{tmp_path}/study.db"
    asked = plan(SERVER, methods=[method], max_runs=8, finalists=1, finalist_runs=2, storage=storage)
    benches, ledgers = [Bench(server, present=PRESENT), Bench(server, present=PRESENT)], [Ledger(), Ledger()]

    async def work(bench: Bench, ledger: Ledger) -> None:
        async def slowly(q: Question) -> StudyMeasurement:
            # Both begin with the same proposal, and who finds it taken looks again after POLL_S: a run takes longer
            # than that, or the other worker has made them all by then.
            await asyncio.sleep(1.2 * POLL_S)
            return await bench(q)

        with closing(Board(storage, "study")) as board:
            await Explorer(asked, slowly, ledger, sharing=Sharing(board, ledger)).run()

    await asyncio.gather(*(work(b, found) for b, found in zip(benches, ledgers, strict=True)))
    each = [{key_of(q.settings) for q in b.searched()} for b in benches]
    assert all(each)
    assert len(each[0] | each[1]) == sum(len(b.searched()) for b in benches) == 8
    for ledger in ledgers:
        assert {key_of(s) for s in ledger.searched()} == each[0] | each[1]
        assert sum(r.purpose == "final" for r in ledger.runs) == 4
    assert sorted(sum(q.purpose == "final" for q in b.asked) for b in benches) == [0, 4]


def test_what_a_dead_worker_claimed_is_free_again(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    with closing(Board(url, "study")) as one, closing(Board(url, "study")) as other:
        assert one.claim("a", 0, "m", 3) == "yours"
        assert (other.claim("a", 0, "m", 3), other.waiting()) == ("taken", True)
        monkeypatch.setattr("llm_d_benchmark.store.board.SILENT_S", -1.0)
        assert (other.waiting(), other.claim("a", 0, "m", 3)) == (False, "yours")
        other.tell("a", 0, {"runs": []})
        assert (one.news(), one.news(), one.claim("a", 0, "m", 3)) == ([{"runs": []}], [], "taken")
        assert (one.claim("b", 0, "m", 1), one.claim("b", 0, "m", 2)) == ("spent", "yours")


async def test_conditions_and_forbidden_combinations_hold() -> None:
    space = {
        "batch_size": [1, 4, 16],
        "spec.target.simulator.enable_prefix_caching": [True, False],
        "spec.target.simulator.block_size": {
            "values": [16, 32],
            "when": {"spec.target.simulator.enable_prefix_caching": [True]},
        },
    }
    forbidden = [{"batch_size": [4, 16], "spec.target.simulator.block_size": 32}]
    for methods in (["grid_search"], ["random_search"], ["sobol"], ["latin_hypercube"], ["bayesian_optimization"]):
        if methods == ["bayesian_optimization"]:
            pytest.importorskip("optuna", reason="needs the [explore] extra")
        asked = plan(space, methods=methods, forbidden=forbidden, finalists=0)
        bench = Bench(lambda s: {THROUGHPUT: 10.0 * float(s["batch_size"])}, present={"batch_size": 1})
        explorer = await explored(asked, bench)
        found = [tuple(s.values()) for s in explorer.ledger.searched()]
        assert set(found) == {(1, True, 16), (1, True, 32), (1, False), (4, True, 16), (4, False), (16, True, 16), (16, False)}  # fmt: skip  # noqa: E501
        assert len(found) == 7


class Clock:
    """Time that passes by runs alone."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("budget", "searched", "rounds"), [(150.0, 7, 3), (400.0, 12, 9), (5.0, 0, 0)])
async def test_a_time_budget_leaves_time_for_the_last_comparison(budget: float, searched: int, rounds: int) -> None:
    asked = plan(SMALL, time_budget=budget, finalists=1, finalist_runs=3, reference_every=0)
    clock, bench, ledger = Clock(), Bench(server, present=PRESENT), Ledger()

    async def slowly(q: Question) -> StudyMeasurement:
        clock.now += 10.0
        return await bench(q)

    explorer = Explorer(asked, slowly, ledger, budget=Budget(budget, clock))
    await explorer.run()
    assert clock.now <= max(budget, 10.0)
    assert len(bench.searched()) == searched
    assert sum(q.purpose == "final" for q in bench.asked) == 2 * rounds
    assert bool(explorer.cut) == (searched < 12)
