"""What a cost model says of a level: its load once more, in virtual time."""

from __future__ import annotations

import numpy as np

from ...domain.records import IntArray
from ..api import CostModel, EngineRequest, FloatArray
from ..engine import Engine, EngineLimits
from ..pace import Pace
from ..progress import Progress
from ..virtual import VirtualLoop, VirtualReplica
from .levels import Level, Performance, performance


def predict(
    level: Level, cost: CostModel, limits: EngineLimits, *, request_overhead: float = 0.0
) -> Performance | None:
    """Performance of the level's load on one replica; of what was measured only the lengths of its requests enter.

    A closed loop sends the level's requests over and over until the window ends, each user the next one when its last
    one is answered; an open loop sends them when they were sent.
    """
    return performance(*simulate(level, cost, limits, request_overhead=request_overhead), level.window)


def simulate(
    level: Level,
    cost: CostModel,
    limits: EngineLimits,
    *,
    request_overhead: float = 0.0,
    noise: float = 0.0,
    seed: int = 0,
) -> tuple[FloatArray, IntArray, list[FloatArray]]:
    """Times of sending, output tokens and token times of the level's load, in the order sent; see ``predict``."""
    loop = VirtualLoop()
    times: list[float] = []
    progress: list[Progress] = []

    def send() -> None:
        number, row = len(times), len(times) % len(level)
        times.append(loop.now)
        loop.at(
            loop.now + request_overhead, queue, EngineRequest(number, int(level.prompt[row]), int(level.output[row]))
        )

    def queue(request: EngineRequest) -> None:
        progress.append(replica.submit(request))

    def answered(_: Progress) -> None:
        if level.concurrency and loop.now < level.window[1]:
            send()

    replica = VirtualReplica(Engine(limits, Pace(cost, noise=noise, seed=seed)), loop, answered)
    for time in [0.0] * level.concurrency if level.concurrency else level.sent.tolist():
        loop.at(time, send)
    while loop.run(100_000):
        pass
    output: IntArray = np.array([p.request.output_tokens for p in progress], np.int64)
    return np.array(times), output, [p.token_times for p in progress]
