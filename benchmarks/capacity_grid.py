"""How often the capacity planner and the simulator agree within one replica: ``python -m benchmarks.capacity_grid``.

A hundred cases: models on hardware, lengths, objectives and rates. The planner says how many replicas are needed before
margins; the simulator tries that count and one either side (and one fewer still, where the smallest holds), over ten
minutes of the peak in virtual time. What was simulated is kept in benchmarks/build/capacity_grid.jsonl, so that the
grid goes on where it was stopped, and a changed planner is judged by the same simulations: they know nothing of it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from llm_d_benchmark.capacity.candidates import from_profile, limits_of
from llm_d_benchmark.capacity.outlook import read
from llm_d_benchmark.capacity.plan import Question, plan
from llm_d_benchmark.config.blocks import CapacityPlanning, Slo
from llm_d_benchmark.config.simulator import SimulatorTargetConfig
from llm_d_benchmark.domain.capacity import CheckRow, CrossCheck
from llm_d_benchmark.perfmodel.queueing import Unstable
from llm_d_benchmark.perfmodel.service import Lengths, Requests, latencies
from llm_d_benchmark.runner.capacity_check import Simulated, compare, try_count
from llm_d_benchmark.simulator.profiles import load_profile

KEPT = Path(__file__).parent / "build" / "capacity_grid.jsonl"
REPLICAS = (("llama-3.1-8b/h100", 1), ("llama-3.1-8b/l40s", 1), ("llama-3.1-70b/h100", 4), ("qwen3-30b-a3b/h100", 1))
LENGTHS = ((256, 128), (512, 512), (1500, 200), (4000, 100))
METRICS = ("p95_ttft", "p95_latency", "p95_tpot")
TIGHTNESS = (1.5, 2.5, 5.0)
"""Objective over the value on a replica with a tenth of its load."""
SIZES = (1.5, 3.5, 7.5)
"""Replicas' worth of load, roughly."""


@dataclass(frozen=True)
class Load:
    """What is simulated: requests/s of all replicas together, over so many seconds."""

    profile: str
    gpus: int
    prompt: int
    answer: int
    rate: float
    seconds: float

    @property
    def config(self) -> SimulatorTargetConfig:
        return SimulatorTargetConfig(profile=self.profile, tensor_parallel_size=self.gpus)

    @property
    def requests(self) -> Requests:
        return Requests(Lengths.fixed(self.prompt), Lengths.fixed(self.answer))


@dataclass(frozen=True)
class Case:
    """One case of the grid."""

    profile: str
    gpus: int
    prompt: int
    answer: int
    metric: str
    tightness: float
    worth: float

    def __str__(self) -> str:
        return f"{self.profile} {self.prompt}+{self.answer} {self.metric} x{self.tightness:g} load {self.worth:g}"


def cases(many: int, seed: int) -> list[Case]:
    """A random choice of the full grid."""
    grid = list(itertools.product(REPLICAS, LENGTHS, METRICS, TIGHTNESS, SIZES))
    random.Random(seed).shuffle(grid)
    return [
        Case(profile, gpus, prompt, answer, metric, tightness, worth)
        for (profile, gpus), (prompt, answer), metric, tightness, worth in grid[:many]
    ]


class Kept:
    """Simulations that were made before: the three metrics' values for a load on a number of replicas."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path is not None and path.exists() else []
        self._rows = {(Load(**row["load"]), row["replicas"]): row for row in map(json.loads, lines)}

    def simulate(self, load: Load, replicas: int) -> CheckRow:
        """``holds``: the queue did not grow."""
        if (row := self._rows.get((load, replicas))) is None:
            profile = load_profile(load.config)
            what = Simulated(profile.cost, limits_of(load.config, profile), load.requests, load.seconds)
            any_value = [Slo.model_validate({"name": m, "target": "<1000000s"}) for m in METRICS]
            found = try_count(what, any_value, load.rate, replicas)
            row = {"load": asdict(load), "replicas": replicas, "holds": found.holds, "values": dict(found.values)}
            self._rows[load, replicas] = row
            if self._path is not None:
                self._path.parent.mkdir(exist_ok=True)
                with self._path.open("a") as file:
                    file.write(json.dumps(row) + "\n")
        return CheckRow(replicas, row["holds"], row["values"])


def check(case: Case, seconds: float, kept: Kept) -> tuple[float, CrossCheck | None]:
    """One case: its objective, s, and the comparison; None where no number of replicas is enough."""
    load = Load(case.profile, case.gpus, case.prompt, case.answer, 1.0, seconds)
    candidate = from_profile(load.config, load.requests)
    replica = candidate.replica
    rate = float(f"{case.worth * 0.6 * replica.capacity:.4g}")
    light = latencies(replica.service, replica.requests, 0.1 * replica.capacity)
    assert not isinstance(light, Unstable)
    limit = case.tightness * read(light, Slo.model_validate({"name": case.metric, "target": "<1s"}), replica.requests)
    slo = Slo.model_validate({"name": case.metric, "target": f"<{limit * 1e3:.4f}ms"})
    block = CapacityPlanning.model_validate({"scenarios": [{"name": "peak", "multiplier": 1.0}]})
    (row,) = plan(Question("grid", block, [slo], rate, scenarios=block.scenarios), [candidate]).requirements
    if row.needed is None:
        return limit, None

    held: list[int] = []

    def try_one(replicas: int) -> CheckRow:
        if held and replicas > min(held):  # more replicas hold as well
            return CheckRow(replicas, True, {})
        seen = kept.simulate(Load(case.profile, case.gpus, case.prompt, case.answer, rate, seconds), replicas)
        value = seen.values[case.metric]
        holds = seen.holds and slo.target.holds(value)
        if holds:
            held.append(replicas)
        return CheckRow(replicas, holds, {case.metric: value})

    return limit, compare(row.needed, seconds, try_one)


def share(mine: list[Case], seconds: float) -> list[tuple[Case, float, CrossCheck | None]]:
    """The cases of one process, those of one load together, told as they go."""
    kept, found = Kept(KEPT), []
    for case in mine:
        limit, seen = check(case, seconds, kept)
        print(f"{case}: {'no count is enough' if seen is None else seen.message}", flush=True)
        found.append((case, limit, seen))
    return found


def parts(chosen: list[Case], processes: int) -> list[list[Case]]:
    """Cases of one load stay together: they share its simulations."""
    loads: dict[tuple[object, ...], list[Case]] = {}
    for case in chosen:
        loads.setdefault((case.profile, case.prompt, case.worth), []).append(case)
    groups = list(loads.values())
    return [[case for group in groups[i::processes] for case in group] for i in range(processes)]


def summary(found: list[tuple[Case, float, CrossCheck | None]]) -> str:
    """A table of agreement, and each case that differs."""
    lines = ["", "| | agree within one | the same | differ |", "| --- | --- | --- | --- |"]
    for name, pick in (
        ("prompt + answer", lambda c: f"{c.prompt} + {c.answer}"),
        ("objective", lambda c: c.metric),
        ("replica", lambda c: c.profile),
        ("all", lambda _: "cases"),
    ):
        for value in sorted({pick(c) for c, _, _ in found}):
            mine = [s for c, _, s in found if s is not None and pick(c) == value]
            agree = sum(s.agrees for s in mine)
            same = sum(s.simulated == s.planned for s in mine)
            lines.append(f"| {name}: {value} | {agree} of {len(mine)} | {same} | {len(mine) - agree} |")
    for case, limit, seen in found:
        if seen is not None and not seen.agrees:
            rows = ", ".join(f"{r.replicas}: {r.values[case.metric]:.4g}" for r in seen.rows if r.values)
            lines.append(f"differs: {case}, limit {limit:.4g} s: {seen.message} ({rows})")
    none = Counter(seen is None for _, _, seen in found)[True]
    return "\n".join([*lines, f"no count is enough: {none}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    mine = parts(cases(arguments.cases, arguments.seed), arguments.processes)
    with ProcessPoolExecutor(arguments.processes, initializer=partial(os.nice, 10)) as pool:
        done = list(pool.map(share, mine, itertools.repeat(arguments.seconds)))
    print(summary([row for part in done for row in part]))


if __name__ == "__main__":
    main()
