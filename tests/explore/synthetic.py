"""A server that is a formula: what a study should find on it is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from llm_d_benchmark.config.layers import load_config
from llm_d_benchmark.domain.study import Settings, StudyMeasurement
from llm_d_benchmark.explore.ledger import Ledger
from llm_d_benchmark.explore.plan import Plan, plan_of
from llm_d_benchmark.explore.search import Explorer, Question

THROUGHPUT = "output_tokens_per_second"
LATENCY = "e2e.p95"
Truth = Callable[[Settings], Mapping[str, float]]
SERVER = {
    "batch_size": [1, 2, 4, 8, 16, 32, 64, 128, 256],
    "concurrency": [1, 2, 4, 8, 16, 32, 64, 128],
    "max_tokens": [64, 128, 256, 512, 1024],
}
"""360 combinations."""


def server(settings: Settings) -> dict[str, float]:
    """Batches share a step's fixed cost; what does not fit into one waits; too large a batch thrashes the cache."""
    batch, users, tokens = (float(settings[n]) for n in ("batch_size", "concurrency", "max_tokens"))
    running = min(batch, users)
    step = 0.008 + 0.00045 * running + 2.5e-7 * running * tokens
    thrash = 1 + 0.25 * max(0.0, math.log2(running * tokens / 16384))
    rate = running / (step * thrash)
    return {THROUGHPUT: rate, LATENCY: users * tokens / rate * 1.1}


def plan(space: Mapping[str, Any], **block: Any) -> Plan:
    """A search over ``space`` on the simulator; ``methods`` and the keys of the block."""
    methods = block.pop("methods", ["grid_search"])
    slos = block.pop("slos", [])
    spec = {
        "target": "simulator",
        "configuration_optimization": {"search_space": dict(space), "optimization_methods": methods, **block},
        "performance_targets": {"slos": slos},
    }
    config = load_config([], env={}, overrides={"spec": spec}).config
    return plan_of(config, "simulator")


class Bench:
    """Measures by a formula, with noise; counts what it was asked."""

    def __init__(self, truth: Truth, *, noise: float = 0.0, seed: int = 0, present: Settings | None = None) -> None:
        self.truth, self.noise, self.present = truth, noise, present or {}
        self.rng = np.random.default_rng(seed)
        self.asked: list[Question] = []
        self.crashes: Callable[[Settings], bool] = lambda _: False
        self.drift = 0.0

    async def __call__(self, q: Question) -> StudyMeasurement:
        self.asked.append(q)
        settings = {**self.present, **(q.settings or {})}
        run = f"run{len(self.asked)}"
        if self.crashes(settings):
            return StudyMeasurement(run, "", q.purpose, q.settings, q.repeat, q.method, "failed", "it crashed")
        factor = 1 + self.drift * len(self.asked)
        values = {m: v * factor * math.exp(self.noise * self.rng.normal()) for m, v in self.truth(settings).items()}
        return StudyMeasurement(run, f"runs/{run}", q.purpose, q.settings, q.repeat, q.method, "ok", "", values)

    def searched(self) -> list[Question]:
        return [q for q in self.asked if q.purpose == "search"]


async def explored(asked: Plan, bench: Bench, ledger: Ledger | None = None) -> Explorer:
    explorer = Explorer(asked, bench, ledger or Ledger())
    await explorer.run()
    return explorer
