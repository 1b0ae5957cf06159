"""The planner: counts against their definition, margins, infeasibility, recovery, cost, and against the simulator."""

from __future__ import annotations

import math
import time

import pytest

from llm_d_benchmark.capacity.candidates import from_profile, limits_of
from llm_d_benchmark.capacity.outlook import keeps
from llm_d_benchmark.capacity.plan import LOADS, Question, plan, size
from llm_d_benchmark.capacity.scaling import LINEAR, Scaling, fit_scaling
from llm_d_benchmark.config.blocks import CapacityPlanning, Slo
from llm_d_benchmark.config.simulator import SimulatorTargetConfig
from llm_d_benchmark.domain.capacity import CheckRow
from llm_d_benchmark.domain.result import Absent, Measured
from llm_d_benchmark.perfmodel.service import Lengths, Requests
from llm_d_benchmark.runner.capacity_check import Simulated, compare, cross_check, try_count
from llm_d_benchmark.simulator.profiles import load_profile

CHAT = Requests(Lengths.fixed(500), Lengths.fixed(150))
P95 = ("p95_latency", "<2500ms")


def slo(name: str, target: str, weight: float | None = None) -> Slo:
    return Slo.model_validate({"name": name, "target": target, "weight": weight})


def candidate(profile="llama-3.1-8b/h100", requests=CHAT, gpu_hour=2.0, tp=1):
    config = SimulatorTargetConfig(profile=profile, tensor_parallel_size=tp)
    return from_profile(config, requests, gpu_hour=gpu_hour)


def question(rate=100.0, slos=(P95,), **block) -> Question:
    made = CapacityPlanning.model_validate(block)
    return Question("test", made, [slo(*s) for s in slos], rate, scenarios=made.scenarios)


def peak(**more):
    return [{"name": "peak", "multiplier": 1.0, **more}]


def test_the_fewest_replicas_that_keep_the_objective():
    q = question(scenarios=peak())
    (row,) = plan(q, [candidate()]).requirements
    replica = candidate().replica
    assert keeps(replica, q.slos, row.rate / row.needed)
    assert not keeps(replica, q.slos, row.rate / (row.needed - 1))
    within = size(q, candidate()).carries.sure
    assert row.replicas == max(row.needed, math.ceil(row.rate * 1.1 / within)) + 1
    assert row.utilization.value * row.replicas * replica.capacity == pytest.approx(row.rate)
    assert row.slos[0].verdict == "pass"


def test_margins_are_what_the_configuration_says():
    bare = question(scenarios=peak(), spare_replicas=0, imbalance=1.0, max_utilization=1.0)
    (row,) = plan(bare, [candidate()]).requirements
    assert row.replicas == row.needed
    (more,) = plan(question(scenarios=peak(), spare_replicas=3), [candidate()]).requirements
    assert more.replicas >= row.replicas + 3


def test_utilisation_binds_where_no_objective_does():
    q = question(slos=(), scenarios=peak())
    found = plan(q, [candidate()])
    assert found.options[0].limited_by == "utilisation 85%"
    assert found.options[0].within_slos.value == pytest.approx(0.85 * found.options[0].requests_per_second, rel=1e-6)
    assert isinstance(found.requirements[0].score, Absent)


def test_infeasible_is_said_with_what_is_attainable():
    q = question(scenarios=[{"name": "out", "target_throughput": 1e5, "max_replicas": 4}])
    (row,) = plan(q, [candidate()]).requirements
    assert not row.feasible
    assert row.replicas is None
    assert "max_replicas is 4" in row.reason
    again = question(scenarios=[{"name": "out", "target_throughput": row.attainable.value * 0.999, "max_replicas": 4}])
    (fits,) = plan(again, [candidate()]).requirements
    assert fits.feasible
    assert fits.replicas == 4


def test_an_objective_that_an_idle_replica_misses():
    found = plan(question(slos=(("p95_latency", "<300ms"),), scenarios=peak()), [candidate()])
    assert "no number of replicas keeps p95_latency" in found.requirements[0].reason
    assert "infeasible on every option" in found.recommendations[0]
    assert not any(c.feasible for c in found.matrix)


def test_a_throughput_objective_asks_for_replicas_whatever_the_load():
    q = question(rate=1.0, slos=(("throughput", ">50000 tokens/s"),), scenarios=peak())
    (row,) = plan(q, [candidate()]).requirements
    each = candidate().replica.capacity * 150
    assert (row.needed - 1) * each <= 50000 < row.needed * each


def test_what_cannot_be_predicted_is_not_judged():
    q = question(slos=(P95, ("error_rate", "<1%"), ("cost_per_token", "<$0.001")), scenarios=peak())
    (row,) = plan(q, [candidate(gpu_hour=None)]).requirements
    assert [o.verdict for o in row.slos] == ["pass", "not_judged", "not_judged"]
    assert isinstance(row.cost.hour, Absent)


def test_a_price_objective_that_fails_makes_it_infeasible():
    q = question(slos=(P95, ("cost_per_token", "<$0.00000001")), scenarios=peak())
    (row,) = plan(q, [candidate()]).requirements
    assert not row.feasible
    assert "cost_per_token" in row.reason


def test_cost_follows_the_hours_of_a_day():
    profile = [0.1] * 12 + [1.0] * 12
    (row,) = plan(question(scenarios=peak(hourly_profile=profile, duration="24h")), [candidate()]).requirements
    assert row.cost.day.value == pytest.approx(2.0 * sum(h.replicas for h in row.hours))
    assert row.cost.day.value < row.cost.constant_day.value == pytest.approx(24 * 2.0 * row.replicas)
    assert row.cost.month.value == pytest.approx(30 * row.cost.day.value)
    tokens = sum(h.rate for h in row.hours) * 150 * 3600
    assert row.cost.per_million_tokens.value == pytest.approx(row.cost.day.value / tokens * 1e6)
    assert row.cost.per_million_low.value <= row.cost.per_million_tokens.value < row.cost.per_million_high.value


def test_recovery_counts_what_is_left():
    found = plan(question(scenarios=peak(), zones=3, use_cases=["disaster_recovery"]), [candidate()])
    (row,) = found.requirements
    replica, zone = found.recovery
    assert replica.survives  # the spare one
    assert zone.lost == math.ceil(row.replicas / 3)
    left = zone.replicas - math.ceil(zone.replicas / 3)
    assert left >= row.replicas - 1
    assert plan(question(scenarios=peak(), use_cases=["cost_optimization"]), [candidate()]).recovery == []


def test_a_loss_is_told_of_the_option_that_is_recommended():
    options = [candidate(gpu_hour=1.0), candidate("llama-3.1-8b/h200", gpu_hour=9.0)]
    told = [r for r in plan(question(scenarios=peak()), options).recommendations if "losing" in r]
    assert len(told) == 1
    assert "losing a zone" in told[0]
    spared = plan(question(scenarios=peak(), spare_replicas=4), options).recommendations
    assert "peak: the objectives are kept after the loss of a replica and of a zone." in spared


def test_outputs_that_are_not_asked_for_are_not_made():
    found = plan(question(scenarios=peak(), outputs=["scaling_curves"]), [candidate()])
    assert found.curves
    assert not found.matrix


def test_options_are_compared_and_the_cheapest_recommended():
    cheap, dear = candidate(gpu_hour=1.0), candidate("llama-3.1-8b/h200", gpu_hour=9.0)
    found = plan(question(scenarios=peak()), [dear, cheap])
    assert any("llama-3.1-8b/h100 is the cheapest option" in r for r in found.recommendations)


def test_a_matrix_of_a_hundred_cells_takes_under_ten_seconds():
    names = ("h100", "h200", "b200", "a100", "l40s")
    options = [candidate(f"{m}/{h}") for m in ("llama-3.1-8b", "llama-3.2-3b") for h in names]
    start = time.process_time()
    found = plan(question(scenarios=peak()), options)
    assert len(found.matrix) == 10 * len(LOADS) == 100
    assert time.process_time() - start < 10


def test_scaling_law_is_found_again_and_needs_four_counts():
    true = Scaling(0.05, 0.001)
    counts = [1, 2, 4, 8, 16]
    found = fit_scaling(counts, [100 * true.times(r) for r in counts])
    assert (found.sigma, found.kappa) == pytest.approx((0.05, 0.001), rel=1e-3)
    assert fit_scaling(counts[:3], [100, 190, 350]) is LINEAR
    assert found.replicas(5.0) == next(r for r in range(1, 99) if true.times(r) >= 5.0)
    assert found.replicas(1000.0) is None


@pytest.mark.parametrize(
    ("profile", "requests", "objective", "rate"),
    [
        ("llama-3.1-8b/h100", CHAT, P95, 150.0),
        ("llama-3.1-8b/h100", Requests(Lengths.fixed(1500), Lengths.fixed(100)), ("p95_ttft", "<200ms"), 40.0),
        ("llama-3.1-8b/l40s", Requests(Lengths.fixed(300), Lengths.fixed(60)), ("p99_latency", "<6s"), 20.0),
        ("llama-3.1-8b/l40s", Requests(Lengths.fixed(4000), Lengths.fixed(100)), ("p95_tpot", "<150ms"), 6.0),
        ("qwen3-30b-a3b/h100", Requests(Lengths.fixed(4000), Lengths.fixed(100)), ("p95_latency", "<4s"), 8.0),
    ],
)
def test_the_simulator_agrees_within_a_replica(profile, requests, objective, rate):
    config = SimulatorTargetConfig(profile=profile)
    found = load_profile(config)
    q = question(rate=rate, slos=(objective,), scenarios=peak())
    (row,) = plan(q, [candidate(profile, requests)]).requirements
    what = Simulated(found.cost, limits_of(config, found), requests, seconds=200.0)
    check = cross_check(what, q.slos, row.rate, row.needed)
    assert check.agrees, check.message
    assert [r.replicas for r in check.rows][-1] == row.needed + 1


def test_a_queue_that_grows_steadily_is_not_taken_for_a_steady_one():
    """A latency that does not wait for a place, TPOT, holds however long the queue gets."""
    config = SimulatorTargetConfig(profile="llama-3.1-8b/h100")
    found = load_profile(config)
    what = Simulated(found.cost, limits_of(config, found), CHAT, seconds=60.0)
    over = 2 * candidate().replica.capacity
    row = try_count(what, [slo("p95_tpot", "<1s")], over, 1)
    assert row.values["p95_tpot"] < 1
    assert not row.holds
    assert try_count(what, [slo("p95_tpot", "<1s")], over / 4, 1).holds


def test_two_replicas_apart_is_no_agreement():
    def holds_from(fewest):
        return lambda n: CheckRow(n, n >= fewest, {})

    assert [compare(7, 1.0, holds_from(n)).agrees for n in (5, 6, 7, 8, 9)] == [False, True, True, True, False]


def test_a_difference_is_told():
    config = SimulatorTargetConfig(profile="llama-3.1-8b/h100")
    found = load_profile(config)
    what = Simulated(found.cost, limits_of(config, found), CHAT, seconds=60.0)
    check = cross_check(what, [slo(*P95)], 200.0, 2)
    assert not check.agrees
    assert check.simulated is None
    assert "misses an objective even with 3 replicas" in check.message
    assert isinstance(candidate().gpu_hour, Measured)
