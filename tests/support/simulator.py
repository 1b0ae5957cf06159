"""Parts of a simulator for tests: a small linear cost model, and engines small enough to run out of everything."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llm_d_benchmark.simulator.api import EngineRequest, FloatArray, StepLoad
from llm_d_benchmark.simulator.engine import Engine, EngineLimits
from llm_d_benchmark.simulator.pace import Pace


@dataclass(frozen=True)
class LinearCost:
    """step = fixed + prefill * tokens + pair * pairs + sequence * sequences + context * tokens read, in seconds."""

    fixed: float = 0.005
    prefill: float = 0.0001
    pair: float = 1e-8
    sequence: float = 0.0001
    context: float = 1e-7
    kv_bytes_per_token: float = 1000.0

    def step(self, load: StepLoad) -> float:
        return (
            self.fixed
            + self.prefill * load.prefill_tokens
            + self.pair * load.prefill_pairs
            + self.sequence * load.decode_seqs
            + self.context * load.decode_context
        )

    def decode_steps(self, seqs: int, context: int, steps: int) -> FloatArray:
        return self.fixed + self.sequence * seqs + self.context * (context + seqs * np.arange(steps, dtype=np.float64))


def small_engine(
    *,
    seqs: int = 4,
    tokens: int = 32,
    block: int = 4,
    blocks: int = 24,
    caching: bool = True,
    cost: LinearCost | None = None,
    noise: float = 0.0,
) -> Engine:
    return Engine(EngineLimits(seqs, tokens, block, blocks, caching), Pace(cost or LinearCost(), noise=noise))


def request(number: int, prompt: int, output: int, *, prefix: int | None = None, block: int = 4) -> EngineRequest:
    """A request whose blocks are its own, or those of everybody with the same ``prefix``."""
    chain = [hash((number if prefix is None else ("p", prefix), i)) for i in range(prompt // block)]
    return EngineRequest(number, prompt, output, chain)
