"""The table of aliases for metrics and factors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_d_benchmark.config.aliases import (
    DISTRIBUTIONS,
    METRIC_ALIASES,
    SCALARS,
    STATISTICS,
    check_factor,
    factor_key,
    parse_metric,
    parse_metrics,
)
from llm_d_benchmark.domain.result import Metrics

OUTSIDE_METRICS = {
    "cost_per_token", "cost_per_request", "gpu_utilization", "memory_usage", "cpu_utilization", "network_io_rate",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "path", "unit"),
    [
        ("p95_latency", "e2e.p95", "s"),
        ("latency_p95", "e2e.p95", "s"),
        ("e2e.p95", "e2e.p95", "s"),
        ("p99_ttft", "ttft.p99", "s"),
        ("ttft.p99.9", "ttft.p99.9", "s"),
        ("p99.9_ttft", "ttft.p99.9", "s"),
        ("median_tpot", "tpot.p50", "s"),
        ("itl_per_token_p90", "itl_per_token.p90", "s"),
        ("throughput", "output_tokens_per_second", "tokens/s"),
        ("throughput_tokens_per_second", "output_tokens_per_second", "tokens/s"),
        ("cost_per_token", "cost_per_token", "USD/token"),
        ("error_rate", "error_rate", "fraction"),
        ("TTFT_mean", "ttft.mean", "s"),
    ],
)
def test_the_published_names(name: str, path: str, unit: str) -> None:
    ref = parse_metric(name, statistic_needed=True)
    assert (ref.path, ref.unit) == (path, unit)


@given(st.sampled_from(DISTRIBUTIONS), st.sampled_from(STATISTICS))
def test_both_patterns_mean_the_same(metric: str, statistic: str) -> None:
    expected = parse_metric(f"{metric}.{statistic}")
    assert parse_metric(f"{statistic}_{metric}") == expected
    assert parse_metric(f"{metric}_{statistic}") == expected
    assert parse_metric(expected.path) == expected


def test_every_name_is_a_metric_of_the_result() -> None:
    known = set(Metrics.__dataclass_fields__)
    assert set(DISTRIBUTIONS) <= known
    assert set(SCALARS) - OUTSIDE_METRICS <= known
    assert set(METRIC_ALIASES.values()) <= {*DISTRIBUTIONS, *SCALARS}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("p95_latncy", "did you mean 'p95_latency'"),
        ("p75_latency", "allowed: mean, min, max, p50"),
        ("throughput.p95", "one number per stage"),
        ("ttft", "say which value"),
        ("", "is not a metric"),
    ],
)
def test_names_that_mean_nothing(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_metric(name, statistic_needed=True)


def test_groups_stand_for_several_metrics() -> None:
    assert [m.path for m in parse_metrics("latency_percentiles (p50, p99)")] == ["e2e.p50", "e2e.p99"]
    assert len(parse_metrics("resource_utilization")) == 4
    assert [m.path for m in parse_metrics("response_time")] == ["e2e"]


def test_a_factor_sets_a_key_of_the_configuration() -> None:
    assert factor_key("batch_size", "local") == "spec.target.local.slots"
    assert factor_key("batch_sizes", "process") == "spec.target.process.args.max_num_seqs"
    assert factor_key("max_tokens", "existing").endswith(".config.output_length")
    assert factor_key("temperatures", "existing").endswith(".config.parameters.temperature")
    assert check_factor("spec.target.local.batch") == "spec.target.local.batch"
    with pytest.raises(ValueError, match="a target of type 'existing' cannot change"):
        factor_key("batch_size", "existing")
    with pytest.raises(ValueError, match="did you mean 'temperature'"):
        check_factor("temprature")
