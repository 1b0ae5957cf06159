"""From a configuration to the stages of its load generators."""

from __future__ import annotations

import pytest

from llm_d_benchmark.config.model import BenchmarkConfig
from llm_d_benchmark.runner.prepare import stages_of


@pytest.mark.parametrize(
    ("kind", "own", "endpoint"),
    [
        ("native", {}, "chat"),
        ("aiperf", {}, "chat"),
        ("inference-perf", {}, "completions"),
        ("vllm-bench", {}, "completions"),
        ("fmperf", {}, "completions"),
        ("vllm-bench", {"endpoint": "chat"}, "chat"),
    ],
)
def test_a_stage_is_planned_for_the_endpoint_that_its_generator_uses(
    kind: str, own: dict[str, str], endpoint: str
) -> None:
    generator = {"type": kind, "config": {"concurrency": 1, **own}}
    config = BenchmarkConfig.model_validate({"spec": {"benchmark": {"load_generators": [generator]}}})
    (stage,) = stages_of(config, config.spec.benchmark.load_generators[0], 0).planned()
    assert stage.endpoint == endpoint
