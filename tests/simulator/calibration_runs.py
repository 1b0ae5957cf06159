"""Runs whose server is a known cost model, for the tests of calibration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from llm_d_benchmark.analyze.api import RunInput
from llm_d_benchmark.domain.records import Records
from llm_d_benchmark.simulator.calibrate.levels import Level
from llm_d_benchmark.simulator.calibrate.predict import simulate
from llm_d_benchmark.simulator.cost import StepCost
from llm_d_benchmark.simulator.engine import EngineLimits
from tests.support.records import START, S, make_manifest, run_input, stage_events

GPU = StepCost(fixed=1.8e-3, weights=5.6e-3, token=2.3e-5, sequence=1.2e-5, context=4.9e-8, pair=4.4e-10)
"""About the 8B on an H100: bound by reading the weights up to 243 tokens."""

CPU = StepCost(fixed=2e-3, weights=18e-3, token=4.6e-3, sequence=8e-3, context=2e-6, pair=1e-7)
"""About a 270M model on one core."""

GPU_LIMITS = EngineLimits(64, 8192, 16, 28_000, False)
CPU_LIMITS = EngineLimits(4, 2048, 16, 1024, False)


def served_level(
    users: int,
    cost: StepCost,
    limits: EngineLimits,
    *,
    seconds: float = 10.0,
    request_overhead: float = 0.0,
    noise: float = 0.0,
    seed: int = 0,
) -> Level:
    """A closed loop of requests of mixed lengths against the cost model, as a client would have seen it."""
    rng = np.random.default_rng([seed, users])
    longest = 1500 if cost is GPU else 96
    n = 4000
    asked = Level(
        label=f"c={users}",
        run_id="run",
        concurrency=users,
        window=(2.0, 2.0 + seconds),
        sent=np.zeros(n),
        prompt=rng.integers(16, longest, n),
        cached=np.zeros(n, np.int64),
        output=rng.integers(8, longest // 4, n),
        chunks=[],
        session=np.arange(n),
    )
    sent, output, chunks = simulate(asked, cost, limits, request_overhead=request_overhead, noise=noise, seed=seed)
    rows = np.arange(len(sent))
    return replace(
        asked,
        sent=sent,
        prompt=asked.prompt[rows],
        cached=asked.cached[rows],
        output=output,
        chunks=chunks,
        session=rows,
    )


def as_run(levels: list[Level], limits: EngineLimits, *, run_id: str = "run", **info: Any) -> RunInput:
    """The levels as the records and events of a run, one stage after the other."""
    parts, events = [], []
    for index, level in enumerate(levels):
        start = START + index * 1000 * S
        parts.append(Records.from_rows([_row(level, i, index, start) for i in range(len(level))]))
        made = stage_events(level.window[1], index=index, rate=None, concurrency=level.concurrency, start=start)
        made[0].data["label"] = level.label  # type: ignore[index]
        made[-1].data["window_start"] = start + round(level.window[0] * S)  # type: ignore[index]
        events += made
    facts = {"max_num_seqs": limits.max_num_seqs, "max_num_batched_tokens": limits.max_num_batched_tokens} | info
    manifest = make_manifest()
    manifest["target"] = manifest["target"] | {"info": facts}
    run = run_input(parts, events, manifest=manifest)
    return RunInput(run_id, run.manifest, run.config, run.events, run.parts)


def _row(level: Level, i: int, stage: int, start: int) -> dict[str, Any]:
    sent = start + round(float(level.sent[i]) * S)
    chunks = np.rint((level.chunks[i] - level.sent[i]) * 1e6).astype(np.int32)
    return {
        "request_id": stage * 10_000 + i, "stage": stage, "shard": 0, "worker": 0, "model": "m",
        "session": int(level.session[i]), "turn": 0, "ready": sent, "sent": sent,
        "first_token": sent + int(chunks[0]) * 1000, "last_token": sent + int(chunks[-1]) * 1000,
        "end": sent + int(chunks[-1]) * 1000, "chunk_times": chunks, "input_tokens": int(level.prompt[i]),
        "input_source": "usage", "cached_tokens": int(level.cached[i]), "output_tokens": int(level.output[i]),
        "output_source": "usage", "streaming": True, "status": "ok", "http_status": 200, "attempts": 1,
    }  # fmt: skip
