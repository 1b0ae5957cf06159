"""The experiment of docs/simulator.md, shortened: what routing by prefix cache is worth on shared prefixes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from llm_d_benchmark.config.layers import load_config
from llm_d_benchmark.domain.result import Distribution, Measured, Metrics
from llm_d_benchmark.runner.options import RunOptions
from llm_d_benchmark.runner.run import run

EXAMPLE = Path(__file__).parents[2] / "examples" / "simulator-routing.yaml"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Metrics]]:
    """By policy: the metrics at 20 and then at 36 requests/s."""
    load = "spec.benchmark.load_generators.0.config"
    found = {}
    for policy in ("random", "round_robin", "prefix_aware"):
        loaded = load_config(
            [EXAMPLE],
            sets=[
                f"spec.target.simulator.router.policy={policy}",
                f"{load}.stages=[{{request_rate: 20}}, {{request_rate: 36}}]",
                "spec.benchmark.duration=30s",
                "spec.benchmark.warmup=20s",
            ],
            env={},
        )
        outcome = asyncio.run(run(loaded, RunOptions(output=tmp_path_factory.mktemp(policy))))
        found[policy] = [stage.metrics for stage in outcome.result.stages]
    return found


def numbers(metrics: Metrics) -> tuple[float, float, float]:
    """Prefix-hit rate, median TTFT in seconds, output tokens/s."""
    assert isinstance(metrics.prefix_hit_rate, Measured)
    assert isinstance(metrics.ttft, Distribution)
    assert isinstance(metrics.output_tokens_per_second, Measured)
    return metrics.prefix_hit_rate.value, metrics.ttft.at("p50") or 0.0, metrics.output_tokens_per_second.value


@pytest.mark.parametrize("blind", ["random", "round_robin"])
def test_prefix_aware_routing_finds_more_answers_sooner_and_carries_more(
    blind: str, measured: dict[str, list[Metrics]]
) -> None:
    (hit, ttft, _), (_, _, tokens) = map(numbers, measured["prefix_aware"])
    (blind_hit, blind_ttft, _), (_, _, blind_tokens) = map(numbers, measured[blind])
    assert blind_hit < 0.4 < 0.75 < hit
    assert ttft < 0.1 < 2 < blind_ttft
    assert tokens > 1.6 * blind_tokens
