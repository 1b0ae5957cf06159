"""Cost is price x time over what came out; an unknown price is left out and named, never 0."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llm_d_benchmark.analyze.cost import Bill, bill, gpus_paid_for, run_cost, with_cost
from llm_d_benchmark.analyze.run import analyze
from llm_d_benchmark.config.prices import PricesConfig
from llm_d_benchmark.domain.result import Absent, Measured, Scalar, StageResult, TargetInfo, Window
from tests.support.records import make_records, run_input, stage_events

TARGET = TargetInfo("existing", "u", "m", None, "f")
S = 1_000_000_000


def stage(output: float = 1000.0, inputs: float = 500.0, requests: float = 4.0, seconds: float = 60.0) -> StageResult:
    found = analyze(run_input([make_records(20)], stage_events(2.0))).stages[0]
    metrics = replace(
        found.metrics,
        output_tokens_per_second=Measured(output, "tokens/s"),
        input_tokens_per_second=Measured(inputs, "tokens/s"),
        total_tokens_per_second=Measured(output + inputs, "tokens/s"),
        requests_per_second=Measured(requests, "requests/s"),
        error_rate=Measured(0.1, "fraction"),
    )
    return replace(found, metrics=metrics, window=Window(0, int(seconds * S), seconds), resources={})


def value(scalar: Scalar | None) -> float:
    assert isinstance(scalar, Measured), scalar
    return scalar.value


UP = Measured(0.0, "fraction")


def billed(found: StageResult, prices: PricesConfig, down: Scalar = UP) -> Bill:
    return bill(found, prices, gpus_paid_for(prices, found, TARGET), down)


def test_gpu_hours_over_tokens_and_requests() -> None:
    found = with_cost(stage(), billed(stage(), PricesConfig(gpu_hour=3.6, gpus=2))).resources
    assert value(found["cost_per_hour"]) == pytest.approx(7.2)
    assert value(found["cost_per_token"]) == pytest.approx(7.2 / 3600 / 1000)
    assert value(found["cost_per_request"]) == pytest.approx(7.2 / 3600 / 4)


def test_every_part_and_what_is_not_given() -> None:
    prices = PricesConfig(gpu_hour=1, gpus=1, storage_hour=0.5, downtime_hour=100)
    parts = billed(stage(), prices, Measured(0.1, "fraction")).parts
    assert value(parts["gpu_cost"]) == 1
    assert value(parts["storage_cost"]) == 0.5
    assert value(parts["downtime_cost"]) == pytest.approx(10)  # a tenth of the time had no service
    assert parts["monitoring_cost"] == Absent("spec.prices.monitoring_hour is not given")
    assert parts["network_cost"] == Absent("spec.prices.network_gb is not given")


def test_network_is_paid_by_what_was_seen() -> None:
    seen = replace(stage(), resources={"network_io_rate": Measured(1e9 / 3600, "bytes/s")})
    assert value(billed(seen, PricesConfig(network_gb=0.08)).parts["network_cost"]) == pytest.approx(0.08)
    unseen = billed(stage(), PricesConfig(network_gb=0.08)).parts["network_cost"]
    assert isinstance(unseen, Absent)


def test_without_gpus_or_prices_nothing_is_made_up() -> None:
    found = with_cost(stage(), billed(stage(), PricesConfig(gpu_hour=3.0))).resources
    assert isinstance(found["cost_per_token"], Absent)
    result = analyze(run_input([make_records(20)], stage_events(2.0)))
    assert result.cost == {}
    assert result.stages[0].resources == {}


def test_downtime_is_the_time_without_answers_not_the_share_of_failures() -> None:
    prices = {"prices": {"downtime_hour": 100.0}}
    half = analyze(run_input([make_records(20, failed=10)], stage_events(2.0), spec=prices))
    # from the end of the first failure in a row to that of the last, of all the time between the first and the last end
    assert value(half.cost["downtime_cost"]) == pytest.approx(100 * 8 / 18, rel=0.02)
    refused = make_records(20, failed=10, error_class="http_429")
    assert value(analyze(run_input([refused], stage_events(2.0), spec=prices)).cost["downtime_cost"]) == 0


def test_gpus_as_paid_for_as_said_as_seen() -> None:
    told = replace(TARGET, info={"gpus": 8})
    seen = replace(stage(), resources={"gpus": Measured(4.0, "")})
    assert value(gpus_paid_for(PricesConfig(gpus=2), seen, told)) == 2
    assert value(gpus_paid_for(PricesConfig(), seen, told)) == 8
    assert value(gpus_paid_for(PricesConfig(), seen, TARGET)) == 4


def test_a_run_is_the_mean_of_its_windows_by_time() -> None:
    stages = [stage(output=1000, seconds=30), stage(output=3000, seconds=90)]
    prices = PricesConfig(gpu_hour=3.6, gpus=1)
    found = run_cost(stages, [billed(s, prices) for s in stages])
    assert value(found["cost_per_million_output_tokens"]) == pytest.approx(3.6 / 3600 / 2500 * 1e6)
    none = stage(output=0.0)
    idle = run_cost([none], [billed(none, prices)])
    assert idle["cost_per_million_output_tokens"] == Absent("no output token in the window")
