"""Values that depend on others, filled in so that config.yaml shows what was run."""

from __future__ import annotations

from typing import Any

from .load import Arrival, Length, LoadConfig, Shape
from .model import BenchmarkConfig

CONCURRENCY = 4
INPUT_LENGTH = 256
OUTPUT_LENGTH = 128
IMPORTED = "imported"
"""The workload of results that another tool measured: what they do not tell stays unknown."""
SHAPED = ("trace", "ramp", "steps", "spikes")


def fill(config: BenchmarkConfig) -> BenchmarkConfig:
    """The configuration with a load and lengths for every generator that says none."""
    benchmark = config.spec.benchmark
    generators = [g.model_copy(update={"config": fill_load(g.config)}) for g in benchmark.load_generators]
    benchmark = benchmark.model_copy(update={"load_generators": generators})
    return config.model_copy(update={"spec": config.spec.model_copy(update={"benchmark": benchmark})})


def fill_load(load: LoadConfig) -> LoadConfig:
    """No load at all is a closed loop of 4 (a trace: its own times); synthetic prompts are 256 tokens in, 128 out."""
    update: dict[str, Any] = {}
    workload = load.workload.get("type", "synthetic")
    if workload == IMPORTED:
        return load
    if "type" not in load.workload:
        update["workload"] = {"type": workload, **load.workload}
    if workload == "synthetic":
        for key, tokens in (("input_length", INPUT_LENGTH), ("output_length", OUTPUT_LENGTH)):
            if getattr(load, key) is None and key not in load.workload:
                update[key] = Length(distribution="fixed", value=tokens)
    if load.sweep is None and not says_load(load):
        default = {"arrival": Arrival(type="trace")} if workload == "trace" else {"concurrency": CONCURRENCY}
        if load.stages:
            update["stages"] = [s if says_load(s) else s.model_copy(update=default) for s in load.stages]
        else:
            update |= default
    return load.model_copy(update=update) if update else load


def says_load(shape: Shape) -> bool:
    """Whether these keys say how much load there is."""
    shaped = shape.arrival is not None and shape.arrival.type in SHAPED
    return shaped or shape.concurrency is not None or shape.request_rate is not None
