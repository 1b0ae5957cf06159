"""How often the capacity planner and the simulator agree within one replica: ``python -m benchmarks.capacity_grid``.

A hundred cases: models on hardware, lengths, objectives and rates. The planner says how many replicas are needed before
margins; the simulator tries that count and one either side, over ten minutes of the peak in virtual time.
"""

from __future__ import annotations

import argparse
import itertools
import random
from collections import Counter

from llm_d_benchmark.capacity.candidates import from_profile, limits_of
from llm_d_benchmark.capacity.outlook import read
from llm_d_benchmark.capacity.plan import Question, plan
from llm_d_benchmark.config.blocks import CapacityPlanning, Slo
from llm_d_benchmark.config.simulator import SimulatorTargetConfig
from llm_d_benchmark.domain.capacity import CrossCheck
from llm_d_benchmark.perfmodel.queueing import Unstable
from llm_d_benchmark.perfmodel.service import Lengths, Requests, latencies
from llm_d_benchmark.runner.capacity_check import Simulated, cross_check
from llm_d_benchmark.simulator.profiles import load_profile

REPLICAS = (("llama-3.1-8b/h100", 1), ("llama-3.1-8b/l40s", 1), ("llama-3.1-70b/h100", 4), ("qwen3-30b-a3b/h100", 1))
LENGTHS = ((256, 128), (512, 512), (1500, 200), (4000, 100))
METRICS = ("p95_ttft", "p95_latency", "p95_tpot")
TIGHTNESS = (1.5, 2.5, 5.0)
"""Objective over the value on a replica with a tenth of its load."""
SIZES = (1.5, 3.5, 7.5)
"""Replicas' worth of load, roughly."""


def cases(many: int, seed: int) -> list[tuple[tuple[str, int], tuple[int, int], str, float, float]]:
    """A random choice of the full grid."""
    grid = list(itertools.product(REPLICAS, LENGTHS, METRICS, TIGHTNESS, SIZES))
    random.Random(seed).shuffle(grid)
    return grid[:many]


def check(case: tuple[tuple[str, int], tuple[int, int], str, float, float], seconds: float) -> CrossCheck | None:
    """One case; None where no number of replicas is enough."""
    (profile, tp), (prompt, answer), metric, tightness, worth = case
    config = SimulatorTargetConfig(profile=profile, tensor_parallel_size=tp)
    requests = Requests(Lengths.fixed(prompt), Lengths.fixed(answer))
    candidate = from_profile(config, requests)
    replica = candidate.replica
    light = latencies(replica.service, requests, 0.1 * replica.capacity)
    assert not isinstance(light, Unstable)
    probe = Slo.model_validate({"name": metric, "target": "<1s"})
    limit = tightness * read(light, probe, requests)
    slo = Slo.model_validate({"name": metric, "target": f"<{limit * 1e3:.4f}ms"})
    rate = worth * 0.6 * replica.capacity
    block = CapacityPlanning.model_validate({"scenarios": [{"name": "peak", "multiplier": 1.0}]})
    (row,) = plan(Question("grid", block, [slo], rate, scenarios=block.scenarios), [candidate]).requirements
    if row.needed is None:
        return None
    found = load_profile(config)
    return cross_check(Simulated(found.cost, limits_of(config, found), requests, seconds), [slo], rate, row.needed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    counts: Counter[str] = Counter()
    for case in cases(arguments.cases, arguments.seed):
        found = check(case, arguments.seconds)
        word = "no count is enough" if found is None else "agrees" if found.agrees else "differs"
        counts[word] += 1
        message = "" if found is None else found.message
        print(f"{sum(counts.values())}: {case}: {word} {message}", flush=True)
    compared = counts["agrees"] + counts["differs"]
    print(f"within one replica: {counts['agrees']} of {compared} ({counts['agrees'] / max(compared, 1):.1%})")
    if counts["no count is enough"]:
        print(f"no count is enough: {counts['no count is enough']}")


if __name__ == "__main__":
    main()
