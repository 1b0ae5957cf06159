"""What a search finds where everything is known: ``python -m benchmarks.explore_search [--fresh]``.

A simulated deployment in virtual time, 145 configurations, each measured with three seeds: that table is the truth,
kept in ``explore_grid.json`` (``--fresh`` measures it again). Searches get their runs from it, one seed's at a time, so
that they see noise; the same search twice sees the same. Ten seeds of each claim:

- Bayesian search is within 3 % of the best feasible configuration with a fifth of the grid's runs in nine of ten;
- NSGA-II with half of the grid's runs reaches 95 % of the true hypervolume of throughput and p95 latency;
- main effects have the right sign where they matter, their 95 % limits cover the truth, and temperature is inert.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llm_d_benchmark.config.layers import LoadedConfig, load_config
from llm_d_benchmark.domain.result import RunResult
from llm_d_benchmark.domain.study import FactorEffect, Settings, StudyMeasurement
from llm_d_benchmark.explore.effects import effects
from llm_d_benchmark.explore.evaluate import Configurations, measurement
from llm_d_benchmark.explore.ledger import Ledger, front
from llm_d_benchmark.explore.plan import Plan, plan_of
from llm_d_benchmark.explore.search import Explorer, Question
from llm_d_benchmark.explore.space import key_of
from llm_d_benchmark.runner.options import RunOptions
from llm_d_benchmark.runner.run import run
from llm_d_benchmark.runner.virtual import in_virtual_time

FILE = Path(__file__).with_name("explore_grid.json")
THROUGHPUT, LATENCY = "output_tokens_per_second", "e2e.p95"
STEP = "max_num_batched_tokens"
KEYS: Mapping[str, str] = {STEP: f"spec.target.simulator.{STEP}"}
GRID: Mapping[str, Sequence[int]] = {
    "batch_size": (8, 16, 32, 64, 128, 256),
    "concurrency": (8, 16, 32, 64, 128),
    STEP: (128, 512, 1024, 2048, 8192),
}
LIMIT = "3s"
SEEDS = 3
WORST = (0.0, 10.0)
"""Throughput and latency that the hypervolume is counted from."""
SPEC: Mapping[str, Any] = {
    "target": {"simulator": {"step_noise": 0.05, "num_gpu_blocks": 6000}},
    "benchmark": {
        "duration": 8,
        "warmup": 3,
        "load_generators": [
            {"config": {"concurrency": 32, "input_length": {"distribution": "uniform", "min": 256, "max": 1024},
                        "output_length": 128}}
        ],
    },
}  # fmt: skip


def configuration(space: Mapping[str, Sequence[float]], **block: Any) -> LoadedConfig:
    """``spec.configuration_optimization`` over ``space`` on the simulated deployment, without finals."""
    search = {
        "search_space": {KEYS.get(n, n): list(v) for n, v in space.items()},
        "finalists": 0,
        "reference_every": 0,
        **block,
    }
    return in_virtual_time(load_config([], env={}, overrides={"spec": {**SPEC, "configuration_optimization": search}}))


def plan(space: Mapping[str, Sequence[float]], **block: Any) -> Plan:
    return plan_of(configuration(space, **block).config, "simulator")


async def simulate(settings: Settings, seed: int, folder: Path) -> dict[str, float]:
    """One real run of ``explore``; a configuration that it refuses gives nothing."""
    loaded = configuration(GRID)
    asked = plan(GRID, optimization_target=["throughput", "p95_latency"])
    configurations = Configurations(loaded, asked.space, finish=in_virtual_time)
    outcome = await run(configurations.of(settings, seed), RunOptions(folder, "benchmark", fail_on=frozenset()))
    result: RunResult = outcome.result
    found = measurement(asked, Question(settings, "search", seed, "grid_search"), result)
    if found.state != "ok":
        raise RuntimeError(f"{settings}: {found.reason}")
    return dict(found.values)


def allowed() -> list[Settings]:
    """A full batch has to fit into a step."""
    return [s for s in plan(GRID).space.combinations() if s[STEP] >= s["batch_size"]]


@dataclass(frozen=True)
class Grid:
    """Every configuration's runs, one for each seed."""

    runs: Mapping[str, Sequence[Mapping[str, float]]]

    @staticmethod
    def load() -> Grid:
        return Grid(json.loads(FILE.read_text()))

    @staticmethod
    def measure() -> Grid:
        found: dict[str, list[dict[str, float]]] = {}
        every = allowed()
        for i, settings in enumerate(every):
            with tempfile.TemporaryDirectory() as folder:
                runs = [asyncio.run(simulate(settings, seed, Path(folder))) for seed in range(SEEDS)]
            found[key_of(settings)] = [{m: float(f"{v:.6g}") for m, v in r.items()} for r in runs]
            print(f"\r{i + 1} of {len(every)} configurations", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        FILE.write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in found.items()) + "\n}\n")
        return Grid(found)

    def mean(self, settings: Settings, metric: str) -> float:
        """Geometric, over the seeds."""
        values = [r[metric] for r in self.runs[_known(settings)]]
        return math.exp(math.fsum(map(math.log, values)) / len(values))

    def every(self) -> Iterator[Settings]:
        yield from (json.loads(key) for key in self.runs)

    def best(self, limit: float) -> float:
        """Of the throughput, within a limit of latency."""
        return max(self.mean(s, THROUGHPUT) for s in self.every() if self.mean(s, LATENCY) <= limit)


def _known(settings: Settings) -> str:
    """The simulator does not look at the temperature."""
    return key_of({n: v for n, v in settings.items() if n in GRID})


class FromGrid:
    """Measures by the table: the run of a random seed."""

    def __init__(self, grid: Grid, seed: int) -> None:
        self.grid, self.rng, self.asked = grid, np.random.default_rng([seed, 5]), 0

    async def __call__(self, q: Question) -> StudyMeasurement:
        if q.settings is None:
            return StudyMeasurement("reference", "", q.purpose, None, q.repeat, q.method, "ok", "", {})
        self.asked += 1
        name, runs = f"run{self.asked}", self.grid.runs.get(_known(q.settings))
        if runs is None:
            why = "max_num_batched_tokens is below max_num_seqs"
            return StudyMeasurement("", "", q.purpose, q.settings, q.repeat, q.method, "failed", why)
        values = runs[self.rng.integers(len(runs))]
        return StudyMeasurement(name, "", q.purpose, q.settings, q.repeat, q.method, "ok", "", values)


def searched(grid: Grid, asked: Plan, seed: int) -> tuple[Explorer, int]:
    """A search that is done, and how many runs it took."""
    bench = FromGrid(grid, seed)
    explorer = Explorer(asked, bench, Ledger())
    asyncio.run(explorer.run())
    return explorer, bench.asked


def bayesian(grid: Grid, seed: int) -> tuple[float, int]:
    """True throughput of what it found over that of the best feasible configuration (0 where the limit is truly broken
    by more than 3 %), and its runs."""
    asked = plan(GRID, optimization_methods=["bayesian_optimization"], constraints={"max_latency": LIMIT}, seed=seed)
    explorer, runs = searched(grid, asked, seed)
    (limit,) = (c.value for c in asked.limits)
    found = front(asked, explorer.standings())[0].settings
    kept = grid.mean(found, LATENCY) <= 1.03 * limit
    return (grid.mean(found, THROUGHPUT) / grid.best(limit) if kept else 0.0), runs


def hypervolume(points: Sequence[tuple[float, float]]) -> float:
    """Of throughput (up) and latency (down), counted from ``WORST``."""
    area, height = 0.0, WORST[1]
    for throughput, latency in sorted(points, reverse=True):
        if latency < height and throughput > WORST[0]:
            area += (throughput - WORST[0]) * (height - latency)
            height = latency
    return area


def genetic(grid: Grid, seed: int) -> tuple[float, int]:
    """Hypervolume of the front it found over the true one, and its runs."""
    asked = plan(
        GRID,
        optimization_methods=["genetic_algorithm"],
        optimization_target=["throughput", "p95_latency"],
        max_runs=75,
        seed=seed,
    )
    explorer, runs = searched(grid, asked, seed)
    mine = [s.settings for s in front(asked, explorer.standings())]

    def volume(settings: Sequence[Settings]) -> float:
        return hypervolume([(grid.mean(s, THROUGHPUT), grid.mean(s, LATENCY)) for s in settings])

    return volume(mine) / volume(list(grid.every())), runs


FACTORS: Mapping[str, Sequence[float]] = {
    "batch_size": (8, 32, 128), "concurrency": (8, 32, 128), STEP: (512, 1024, 8192), "temperature": (0.1, 1.0)
}  # fmt: skip


def true_effects(grid: Grid, metric: str) -> dict[str, float]:
    """The last level against the first, averaged over the other factors' levels."""
    every = list(plan(FACTORS).space.combinations())

    def level(name: str, value: float) -> float:
        return float(np.mean([math.log(grid.mean(s, metric)) for s in every if s[name] == value]))

    return {name: math.expm1(level(name, v[-1]) - level(name, v[0])) for name, v in FACTORS.items()}


def factorial(grid: Grid, seed: int, metric: str) -> list[FactorEffect]:
    """Main effects that a factorial study with two runs of each configuration finds."""
    asked = plan(FACTORS, optimization_methods=["grid_search"], seed=seed)
    bench = FromGrid(grid, seed)
    runs = [asyncio.run(bench(Question(s, "search", r, ""))) for r in (0, 1) for s in asked.space.combinations()]
    return effects(asked.space, runs, metric, inert_below=0.02, seed=seed)[0]


def main(seeds: int = 10, *, fresh: bool = False) -> bool:
    """Print the table; whether every claim holds."""
    grid = Grid.measure() if fresh or not FILE.exists() else Grid.load()
    print(f"{len(grid.runs)} configurations; the best within {LIMIT}: {grid.best(3.0):.0f} tokens/s")
    print("seed  bayesian: of the best, runs   NSGA-II: of the hypervolume, runs")
    near = wide = 0
    for seed in range(seeds):
        (share, runs), (volume, more) = bayesian(grid, seed), genetic(grid, seed)
        near, wide = near + (share >= 0.97), wide + (volume >= 0.95)
        print(f"{seed:4}  {share:10.1%} {runs:17}   {volume:13.1%} {more:21}", flush=True)
    covered = total = wrong = inert = 0
    for metric in (THROUGHPUT, LATENCY):
        truth = true_effects(grid, metric)
        for seed in range(seeds):
            for e in factorial(grid, seed, metric):
                total += 1
                covered += e.low <= truth[e.factor] <= e.high
                wrong += e.verdict == "matters" and e.change * truth[e.factor] <= 0
                inert += e.factor == "temperature" and e.verdict == "inert"
    print(f"bayesian: within 3 % with a fifth of the grid's runs in {near} of {seeds} (at least 9 of 10)")
    print(f"NSGA-II: 95 % of the hypervolume in {wide} of {seeds}")
    print(f"effects: limits cover the truth in {covered} of {total} ({covered / total:.0%}), {wrong} wrong signs; "
          f"temperature inert in {inert} of {2 * seeds}")  # fmt: skip
    return near >= 0.9 * seeds and wide == seeds and not wrong and covered >= 0.9 * total


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fresh", action="store_true", help="measure the grid again")
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    sys.exit(0 if main(arguments.seeds, fresh=arguments.fresh) else 1)
