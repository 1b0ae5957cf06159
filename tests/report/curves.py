"""Curves of the hand-made results, drawn at random around their medians."""

from __future__ import annotations

import math

import numpy as np

from llm_d_benchmark.analyze.curves import Histogram, StageCurves, Timeline
from llm_d_benchmark.domain.result import Distribution, Measured, RunResult
from llm_d_benchmark.report.api import ReportInput

CONFIG = """\
apiVersion: llm-d.ai/v1
kind: Benchmark
metadata:
  name: llama-sweep
spec:
  target:
    type: existing
    existing: {url: "http://gpu-1:8000"}
  benchmark:
    load_generators:
    - type: native
      config:
        input_length: {distribution: normal, mean: 512, std_dev: 32}
        output_length: {distribution: fixed, value: 128}
        sweep: {over: rate}
"""
COMMAND = "llm-d-benchmark run -c sweep.yaml --url http://gpu-1:8000 -o results"


def curves(result: RunResult) -> list[StageCurves]:
    rng = np.random.default_rng(1)
    made = []
    for stage in result.stages:
        quantiles, histograms = {}, {}
        for name in ("ttft", "itl", "tpot", "e2e"):
            found = getattr(stage.metrics, name)
            if isinstance(found, Distribution):
                values = np.exp(rng.normal(math.log(found.percentiles["p50"].value), 0.3, 4000))
                quantiles[name] = [float(v) for v in np.quantile(values, np.linspace(0, 1, 201))]
                counts, edges = np.histogram(values, 40, (0, float(np.quantile(values, 0.995))))
                histograms[name] = Histogram([float(e) for e in edges], [int(c) for c in counts])
        rate = stage.metrics.requests_per_second
        level = rate.value if isinstance(rate, Measured) else 1.0
        sent = [float(n) for n in rng.poisson(level, 36)]
        failed = [float(n) for n in rng.poisson(0.2, 36)] if stage.metrics.requests.failed else [0.0] * 36
        in_flight = [level * (1.6 + 0.2 * math.sin(i / 4)) for i in range(36)]
        made.append(
            StageCurves(
                stage.index,
                quantiles,
                histograms,
                Timeline(stage.window.start - 3_000_000_000, sent, sent, failed, in_flight),
            )
        )
    return made


def source(result: RunResult, **changes: object) -> ReportInput:
    given = {"config_yaml": CONFIG, "command": COMMAND, "events": (), "curves": curves(result), **changes}
    return ReportInput(result=result, **given)  # type: ignore[arg-type]
